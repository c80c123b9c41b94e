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

/// `probabilities` are those of the window, `row_dots` becomes Σ P·dP of both rows.
template <int D>
__device__ ScoreGradients score_gradients(FragmentC (&probabilities)[kWindowTiles],
                                          float (&row_dots)[2], const QueryShared<D>& shared,
                                          const FragmentA (&out_gradients)[D / 16], int tile,
                                          const LigerParams& p, int lane) {
  FragmentC gradients[kWindowTiles];
  float dots[2] = {0, 0};
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    gradients[t].clear();
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
  for (int half = 0; half < 2; ++half) row_dots[half] = row_sum(dots[half]);
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    FragmentC& window = probabilities[t];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      window.x[i] *= (gradients[t].x[i] - row_dots[i / 2 % 2]) * (p.softmax_scale * (1 - p.mix));
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
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    // From the state before the chunk on, along the links to the middle of the queries' sub-chunk.
    FragmentC sum;
    sum.clear();
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(sum, out_gradients[g],
                   load_b<D>(shared.state + 16 * n * kRowStride<D> + 16 * g, lane));
    }
    scale(sum, mix);
#pragma unroll
    for (int distance = kSubChunks - 1; distance >= 0; --distance) {
      if (distance > tile) continue;
      const int key_tile = tile - distance;
      scale_columns(sum, shared.links + key_tile * D + 16 * n, lane);
      const bf16* keys = shared.to_middle + key_tile * kTile * kRowStride<D> + 16 * n;
      multiply_add(sum, score_gradients[distance], load_b_transposed<D>(keys, lane));
    }
    scale_elements<D>(sum, shared.from_middle + tile * kTile * kRowStride<D> + 16 * n, lane);
    const FragmentC phi = mapped(queries[n], softmax);
#pragma unroll
    for (int i = 0; i < 8; ++i) y[n].x[i] = phi.x[i] * sum.x[i];
  }
}

/// Writes the head's rows from fragments.
template <int D>
__device__ void store_head(const HeadRows& tokens, const FragmentC (&x)[D / 16],
                           const QueryTile& at, int lane) {
  bf16* target = head_of(tokens, at.token, at.head, D);
#pragma unroll
  for (int n = 0; n < D / 16; n += 2) {
    store_rows(target + 16 * n, tokens.token_stride, to_a(x[n]), to_a(x[n + 1]), at.valid, lane);
  }
}

template <int D>
__global__ void __launch_bounds__(kQueryThreads, D == 64 ? 2 : 1)
    bwd_queries_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<QueryShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads;
  const int lane = threadIdx.x % 32;
  const HeadRows y_tokens{p.query_gate_gradients, static_cast<int64_t>(p.heads) * D};
  // A warp's rows hold a head's queries, then its upstream gradients, then the next head's queries.
  bf16* rows = shared.warp_rows[threadIdx.x / 32];
  const auto start_rows = [&](const HeadRows& tokens, const QueryTile& at) {
    start_warp_rows<D>(rows, head_of(tokens, at.token, at.head, D), tokens.token_stride, at.valid,
                       lane);
  };
  const auto start_queries = [&](int g) {
    const QueryTile next(p, chunk, kv_head, g);
    if (g < group && next.valid > 0) start_rows(p.q, next);
  };
  int g = threadIdx.x / (32 * kSubChunks);
  start_queries(g);
  load_chunk<D>(shared, p, chunk, blockIdx.x, kv_head);
  wait_for_copies();
  __syncthreads();

  for (; g < group; g += kHeadsAtOnce) {
    const QueryTile at(p, chunk, kv_head, g);
    const int tile = at.tile;
    if (at.valid <= 0) {
      start_queries(g + kHeadsAtOnce);
      continue;
    }
    const float* rotations = shared.rotations + tile * kTile * kRotationStride<D>;
    FragmentA queries[D / 16], out_gradients[D / 16];
    FragmentC probabilities[kWindowTiles];
    finish_warp_rows<D>(queries, rows, lane);
    __syncwarp();
    start_rows(p.out_gradient, at);
    float2 log2_sum;
    {
      FragmentA rotated[D / 16];
#pragma unroll
      for (int n = 0; n < D / 16; ++n) rotated[n] = queries[n];
      rotate<D>(rotated, rotations, at.valid, lane, kRotationStride<D>);
      log2_sum = window_softmax<D>(probabilities, rotated, shared.rotated_keys, tile,
                                   chunk.is_first, p, 1.0f, lane);
    }
    finish_warp_rows<D>(out_gradients, rows, lane);
    __syncwarp();
    start_queries(g + kHeadsAtOnce);
    float row_dots[2];
    const ScoreGradients gradients =
        score_gradients<D>(probabilities, row_dots, shared, out_gradients, tile, p, lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = fragment_row(half, lane);
      if (lane % 4 != 0 || row >= at.valid) continue;
      const int64_t index = (at.token + row) * p.heads + at.head;
      p.log2_sum_exp[index] = half == 0 ? log2_sum.x : log2_sum.y;
      p.row_dots[index] = row_dots[half];
    }

    const FragmentSoftmax softmax = softmax_of_fragments<D>(queries);
    FragmentC y[D / 16];
    recurrence_gradient<D>(y, shared, queries, softmax, out_gradients, gradients.recurrence, tile,
                           p.mix, lane);
    store_head<D>(y_tokens, y, at, lane);
    float sum[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i / 2 % 2] += y[n].x[i];
    }
    sum[0] = row_sum(sum[0]);
    sum[1] = row_sum(sum[1]);
    // The gradient of q, over y.
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
      rotate_back<D>(halves[0], halves[1], n, rotations, at.valid, lane, kRotationStride<D>);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column_group = n + half * (D / 32);
        const FragmentC phi = mapped(queries[column_group], softmax);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          y[column_group].x[i] += halves[half].x[i] - phi.x[i] * sum[i / 2 % 2];
        }
      }
    }
    store_head<D>(p.q_gradient, y, at, lane);
  }
}

}  // namespace

cudaError_t launch_liger_bwd_queries(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_queries_kernel<D>, grid, kQueryThreads,
                                     sizeof(QueryShared<D>), params, stream);
  });
}

}  // namespace tigon::cuda
