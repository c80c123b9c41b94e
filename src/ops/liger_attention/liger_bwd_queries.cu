// Computes  dq through the window and the recurrence, and what the keys' kernel needs of each
// query:
//           window: P, dP = do vᵀ, dS = P ⊙ (dP − Σ P·dP), dq += RoPE⁻¹(dS k)·scale
//           recurrence: dφ(q_i) = Σ_j (do_i·v_j) exp(b_i − b_j) φ(k_j) + exp(b_i) S do_i,
//           dq += y − φ(q) Σ y with y = φ(q) ⊙ dφ(q); y is also the queries' part of the gates'
//           gradient
// Shapes    as forward; query_gate_gradients [N, H, D] bf16; log2_sum_exp and row_dots [N, H]
// float32 Grid      (C, Hkv) blocks of 128 threads for each query head at work at once (one or two)
// Tiles     as forward; one warp owns 16 query rows, all its products stay in registers
// Memory    shared as forward. Reads q and do once, writes dq and y (4·D bytes a token and head)
// Saves     recomputes scores, probabilities and maps from q, k, v; chunk states were made again
// Order     fixed; deterministic
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_queries.cuh"

namespace tigon::cuda {
namespace {

/// Upstream gradients as the left operands of the next products: dS of the window's scores, and
/// mix · dP by distance for the recurrence.
struct ScoreGradients {
  FragmentA window[kWindowTiles];
  FragmentA recurrence[kSubChunks];
};

template <int D>
__device__ ScoreGradients score_gradients(const QueryShared<D>& shared,
                                          const FragmentA (&rotated_queries)[D / 16],
                                          const FragmentA (&out_gradients)[D / 16], int tile,
                                          const Chunk& chunk, const LigerParams& p, int64_t token,
                                          int head, int valid, int lane) {
  FragmentC probabilities[kWindowTiles], gradients[kWindowTiles];
  const float2 log2_sum = window_softmax<D>(probabilities, rotated_queries, shared.rotated_keys,
                                            tile, chunk.is_first, p, 1.0f, lane);
  float dots[2] = {0, 0};
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    gradients[t].clear();
    if (chunk.is_first && tile + t < kSubChunks) continue;
    const bf16* values = shared.values + (tile + t) * kTile * kRowStride<D>;
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(gradients[t], out_gradients[g], load_b<D>(values + 16 * g, lane));
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) dots[i / 2 % 2] += probabilities[t].x[i] * gradients[t].x[i];
  }
  ScoreGradients result;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    dots[half] = row_sum(dots[half]);
    const int row = lane / 4 + 8 * half;
    if (lane % 4 == 0 && row < valid) {
      const int64_t at = (token + row) * p.heads + head;
      p.log2_sum_exp[at] = half == 0 ? log2_sum.x : log2_sum.y;
      p.row_dots[at] = dots[half];
    }
  }
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    FragmentC& window = probabilities[t];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      window.x[i] *= (gradients[t].x[i] - dots[i / 2 % 2]) * (p.softmax_scale * (1 - p.mix));
    }
    result.window[t] = to_a(window);
  }
#pragma unroll
  for (int distance = 0; distance < kSubChunks; ++distance) {
    FragmentC& recurrence = gradients[kWindowTiles - 1 - distance];
    scale(recurrence, p.mix);
    if (distance == 0) keep_lower(recurrence, lane);
    result.recurrence[distance] = to_a(recurrence);
  }
  return result;
}

/// y = φ(q) ⊙ dφ(q).
template <int D>
__device__ void recurrence_gradient(FragmentC (&y)[D / 16], const QueryShared<D>& shared,
                                    const FragmentA (&queries)[D / 16],
                                    const FragmentSoftmax& softmax,
                                    const FragmentA (&out_gradients)[D / 16],
                                    const FragmentA (&score_gradients)[kSubChunks], int tile,
                                    float mix, int lane) {
  const int first_row = tile * kTile * kRowStride<D>;
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    FragmentC earlier, own;
    earlier.clear();
    own.clear();
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(earlier, out_gradients[g],
                   load_b<D>(shared.state + 16 * n * kRowStride<D> + 16 * g, lane));
    }
    scale(earlier, mix);
#pragma unroll
    for (int distance = kSubChunks - 1; distance > 0; --distance) {
      if (distance > tile) continue;
      const int key_tile = tile - distance;
      scale_columns(earlier, shared.decay + key_tile * D + 16 * n, lane);
      const bf16* keys = shared.to_end + key_tile * kTile * kRowStride<D> + 16 * n;
      multiply_add(earlier, score_gradients[distance], load_b_transposed<D>(keys, lane));
    }
    multiply_add(own, score_gradients[0],
                 load_b_transposed<D>(shared.to_middle + first_row + 16 * n, lane));
    scale_elements<D>(earlier, shared.from_start + first_row + 16 * n, lane);
    scale_elements<D>(own, shared.from_middle + first_row + 16 * n, lane);
    const FragmentC phi = mapped(queries[n], softmax);
#pragma unroll
    for (int i = 0; i < 8; ++i) y[n].x[i] = phi.x[i] * (earlier.x[i] + own.x[i]);
  }
}

template <int D>
__global__ void __launch_bounds__(256, D == 64 ? 2 : 1) bwd_queries_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<QueryShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads;
  load_chunk<D>(shared, p, chunk, blockIdx.x, kv_head);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int tile = warp % kSubChunks, valid = chunk.length - tile * kTile;
  if (valid <= 0) return;
  const int64_t token = static_cast<int64_t>(chunk.first_token) + tile * kTile;
  const float* rotations = p.rotations + token * D;
  const int64_t y_stride = static_cast<int64_t>(p.heads) * D;
  const HeadRows y_tokens{p.query_gate_gradients, y_stride};
  for (int g = warp / kSubChunks; g < group; g += blockDim.x / 128) {
    const int head = kv_head * group + g;
    FragmentA queries[D / 16], rotated[D / 16], out_gradients[D / 16];
    load_query_rows<D>(queries, head_of(p.q, token, head, D), p.q.token_stride, valid, lane);
    load_query_rows<D>(out_gradients, head_of(p.out_gradient, token, head, D),
                       p.out_gradient.token_stride, valid, lane);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) rotated[n] = queries[n];
    rotate<D>(rotated, rotations, valid, lane);
    const ScoreGradients gradients = score_gradients<D>(shared, rotated, out_gradients, tile, chunk,
                                                        p, token, head, valid, lane);

    const FragmentSoftmax softmax = softmax_of_fragments<D>(queries);
    FragmentC y[D / 16];
    recurrence_gradient<D>(y, shared, queries, softmax, out_gradients, gradients.recurrence, tile,
                           p.mix, lane);
    bf16* y_target = head_of(y_tokens, token, head, D);
    float sum[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(y_target + 16 * n, y_stride, y[n], valid, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i / 2 % 2] += y[n].x[i];
    }
    sum[0] = row_sum(sum[0]);
    sum[1] = row_sum(sum[1]);

    bf16* target = head_of(p.q_gradient, token, head, D);
#pragma unroll
    for (int n = 0; n < D / 32; ++n) {
      FragmentC halves[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        halves[half].clear();
#pragma unroll
        for (int t = 0; t < kWindowTiles; ++t) {
          const bf16* keys = shared.rotated_keys + (tile + t) * kTile * kRowStride<D>;
          multiply_add(halves[half], gradients.window[t],
                       load_b_transposed<D>(keys + 16 * (n + half * (D / 32)), lane));
        }
      }
      rotate_back<D>(halves[0], halves[1], n, rotations, valid, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column_group = n + half * (D / 32);
        const FragmentC phi = mapped(queries[column_group], softmax);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          halves[half].x[i] += y[column_group].x[i] - phi.x[i] * sum[i / 2 % 2];
        }
        store_rows(target + 16 * column_group, p.q_gradient.token_stride, halves[half], valid,
                   lane);
      }
    }
  }
}

}  // namespace

cudaError_t launch_liger_bwd_queries(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    const int threads = params.heads == params.kv_heads ? 128 : 256;
    return launch_with_shared_memory(bwd_queries_kernel<D>, grid, threads, sizeof(QueryShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
