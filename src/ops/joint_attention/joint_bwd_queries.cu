// Computes  what the queries get. With L the log-sum-exp of the whole denominator, w the far weight
//           e^log_mix / denominator and δ_i = do_i · o_i:
//           window: P = e^(s − L), dS = P (do vᵀ − δ), dq = RoPE⁻¹(Σ dS RoPE(k)) / √D
//           far: y = Q' ⊙ dQ' with dQ' = w (Σ_{s ≤ r} (do·v_s − δ) K'_s + S' do − δ masses),
//           d log_mix = Σ y, dz = y₊ − y₋ − (φ₊ − φ₋) Σ y over the halves of the channels,
//           d log a += (r − 32) y
// Shapes    as forward; query_logit_gradients dz [N, H, D] bf16
// Grid      (C, Hkv) blocks of 128 threads for each query head at work at once (one or two)
// Tiles     as forward; one warp owns 16 query rows, all its products stay in registers
// Memory    shared as forward. Reads q, do, o and Q' once, writes dq and dz
// Saves     δ; the maps were made again
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_queries.cuh"

namespace tigon::cuda {
namespace {

/// Of the thread's two rows.
struct RowValues {
  float log2_sum_exp[2], far_weight[2], dot[2];
};

/// do · v of a tile of keys, less δ.
template <int D>
__device__ FragmentC score_gradients(const FragmentA (&out_gradients)[D / 16], const bf16* values,
                                     const RowValues& rows, int lane) {
  FragmentC c;
  c.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_add(c, out_gradients[g], load_b<D>(values + 16 * g, lane));
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) c.x[i] -= rows.dot[i / 2 % 2];
  return c;
}

/// y₊ − y₋ by channel of z, and Σ y of both rows. `mapped` is the first row of Q', `decay_sums`
/// where the tile's share of the gradient of log a goes.
template <int D>
__device__ float2 far_gradient(FragmentC (&difference)[D / 16], const JointQueryShared<D>& shared,
                               const QueryBlock& block, const bf16* mapped, int64_t stride,
                               const FragmentA (&out_gradients)[D / 16], const RowValues& rows,
                               float* decay_sums) {
  const int lane = block.lane, tile = block.tile;
  FragmentA gradients[kChunkTiles];  // by distance in tiles; 0 is the queries' own place
#pragma unroll
  for (int distance = 0; distance < kChunkTiles; ++distance) {
    if (distance > tile) break;
    const bf16* values = shared.values[0] + (tile - distance) * kTile * kRowStride<D>;
    FragmentC c = score_gradients<D>(out_gradients, values, rows, lane);
    if (distance == 0) keep_lower(c, lane);
    gradients[distance] = to_a(c);
  }
  const int first_place = tile * kTile - kMiddlePlace;
  const float places[2] = {static_cast<float>(first_place + fragment_row(0, lane)),
                           static_cast<float>(first_place + fragment_row(1, lane))};
  float sum[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int channel = half * D + 16 * n;
      FragmentC y;
      y.clear();
#pragma unroll
      for (int g = 0; g < D / 16; ++g) {
        multiply_add(y, out_gradients[g],
                     load_b<D>(shared.state + channel * kRowStride<D> + 16 * g, lane));
      }
#pragma unroll
      for (int distance = 0; distance < kChunkTiles; ++distance) {
        if (distance > tile) break;
        const bf16* keys = shared.mapped_keys + (tile - distance) * kTile * kRowStride<2 * D>;
        multiply_add(y, gradients[distance], load_b_transposed<2 * D>(keys + channel, lane));
      }
      const FragmentC phi =
          widened(load_query_fragment(mapped + channel, stride, block.valid, lane));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float mass = shared.masses[channel + fragment_column(i / 2, lane) + i % 2];
        const int row = i / 2 % 2;
        y.x[i] = phi.x[i] * rows.far_weight[row] * (y.x[i] - rows.dot[row] * mass);
        sum[row] += y.x[i];
        difference[n].x[i] = half == 0 ? y.x[i] : difference[n].x[i] - y.x[i];
      }
      store_column_sums(decay_sums + channel, y, places, lane);
    }
  }
  return {row_sum(sum[0]), row_sum(sum[1])};
}

/// dz = difference − (φ₊ − φ₋) Σ y.
template <int D>
__device__ void finish_logit_gradient(FragmentC (&difference)[D / 16], const QueryBlock& block,
                                      const bf16* mapped, int64_t stride, float2 sum,
                                      const float* log_decay) {
  const int lane = block.lane, middle = kMiddlePlace - block.tile * kTile;
  const float sums[2] = {sum.x, sum.y};
  const float slopes[2] = {kLog2E * static_cast<float>(middle - fragment_row(0, lane)),
                           kLog2E * static_cast<float>(middle - fragment_row(1, lane))};
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int channel = half * D + 16 * n;
      const FragmentC phi =
          widened(load_query_fragment(mapped + channel, stride, block.valid, lane));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float decay = log_decay[channel + fragment_column(i / 2, lane) + i % 2];
        const int row = i / 2 % 2;
        const float share = phi.x[i] * exp2_fast(slopes[row] * decay) * sums[row];
        difference[n].x[i] -= half == 0 ? share : -share;
      }
    }
  }
}

template <int D>
__global__ void __launch_bounds__(256, D == 64 ? 2 : 1) bwd_queries_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<JointQueryShared<D>*>(memory);
  const QueryBlock block(p);
  const int lane = block.lane, valid = block.valid;
  FragmentC sums[D / 16];  // of the far part, then the gradient of the rotated queries
  FragmentA queries[D / 16], out_gradients[D / 16];
  RowValues rows;

  const auto begin = [&](int head) {
    if (head < 0) return;
    load_query_rows<D>(out_gradients, head_of(p.out_gradient, block.token, head, D),
                       p.out_gradient.token_stride, valid, lane);
    load_query_rows<D>(queries, head_of(p.out, block.token, head, D), p.out.token_stride, valid,
                       lane);
    float dot[2] = {0, 0};
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 a = unpack(queries[g].x[i]), b = unpack(out_gradients[g].x[i]);
        dot[i % 2] += a.x * b.x + a.y * b.y;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows.dot[half] = row_sum(dot[half]);
      const int row = fragment_row(half, lane);
      const int64_t at = (block.token + min(row, valid - 1)) * p.heads + head;
      rows.log2_sum_exp[half] = p.log2_sum_exp[at];
      rows.far_weight[half] = p.far_weights[at];
      if (lane % 4 == 0 && row < valid) p.row_dots[at] = rows.dot[half];
    }
    load_query_rows<D>(queries, head_of(p.q, block.token, head, D), p.q.token_stride, valid, lane);
    rotate<D>(queries, p.rotations + block.token * D, valid, lane);

    for (FragmentC& c : sums) c.clear();
    float2 sum = {0, 0};
    if (block.has_far) {
      const bf16* mapped = head_of(p.mapped_queries, block.token, head, 2 * D);
      const int64_t stride = p.mapped_queries.token_stride;
      const int64_t tile = static_cast<int64_t>(blockIdx.x) * kChunkTiles + block.tile;
      sum = far_gradient<D>(sums, shared, block, mapped, stride, out_gradients, rows,
                            p.query_decay_gradients + (tile * p.heads + head) * 2 * D);
      finish_logit_gradient<D>(sums, block, mapped, stride, sum,
                               p.log_decay + static_cast<int64_t>(block.kv_head) * 2 * D);
    }
    bf16* target = head_of(p.query_logit_gradients, block.token, head, D);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(target + 16 * n, p.query_logit_gradients.token_stride, sums[n], valid, lane);
      sums[n].clear();
    }
    if (lane % 4 != 0) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = fragment_row(half, lane);
      if (row >= valid) continue;
      p.log_mix_gradient[(block.token + row) * p.heads + head] = half == 0 ? sum.x : sum.y;
    }
  };
  const auto visit = [&](int head, int index) {
    if (head < 0) return;
    const Window window = block.window(index);
    const float scale_log2 = p.softmax_scale * kLog2E;
#pragma unroll 1  // the code of four does not fit the instruction cache
    for (int t = 0; t < kChunkTiles; ++t) {
      if (!sees_tile(window, t, block.tile)) continue;
      const int at = t * kTile * kRowStride<D>;
      const bf16* keys = shared.rotated_keys[index % 2] + at;
      FragmentC scores;
      scores.clear();
#pragma unroll
      for (int g = 0; g < D / 16; ++g) {
        multiply_add(scores, queries[g], load_b<D>(keys + 16 * g, lane));
      }
      hide_unseen(scores, window, t, block.tile, lane);
      const FragmentC gradients =
          score_gradients<D>(out_gradients, shared.values[index % 2] + at, rows, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float probability =
            exp2_fast(scores.x[i] * scale_log2 - rows.log2_sum_exp[i / 2 % 2]);
        scores.x[i] = probability * gradients.x[i] * p.softmax_scale;
      }
      const FragmentA a = to_a(scores);
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        multiply_add(sums[n], a, load_b_transposed<D>(keys + 16 * n, lane));
      }
    }
  };
  const auto end = [&](int head) {
    if (head < 0) return;
    bf16* target = head_of(p.q_gradient, block.token, head, D);
#pragma unroll
    for (int n = 0; n < D / 32; ++n) {
      rotate_back<D>(sums[n], sums[n + D / 32], n, p.rotations + block.token * D, valid, lane);
    }
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(target + 16 * n, p.q_gradient.token_stride, sums[n], valid, lane);
    }
  };
  for_each_head<D>(shared, block, p, begin, visit, end);
}

}  // namespace

cudaError_t launch_joint_bwd_queries(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    const int threads = params.heads == params.kv_heads ? 128 : 256;
    return launch_with_shared_memory(bwd_queries_kernel<D>, grid, threads,
                                     sizeof(JointQueryShared<D>), params, stream);
  });
}

}  // namespace tigon::cuda
