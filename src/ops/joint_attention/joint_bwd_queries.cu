// Computes  what the queries get. With L the log-sum-exp of the whole denominator, w the far weight
//           e^log_mix / denominator and δ_i = do_i · o_i:
//           window: P = e^(s − L), dS = P (do vᵀ − δ), dq = RoPE⁻¹(Σ dS RoPE(k)) / √D
//           far: y = w Q' ⊙ (Σ_{s ≤ r} (do·v_s − δ) K'_s + S' do − δ masses),
//           d log_mix = Σ y, dz = y₊ − y₋ − (φ₊ − φ₋) Σ y over the halves of the channels,
//           dq += dz wᵀ, d log a += (r − 32) y
// Shapes    as forward; query_logit_gradients dz [N, H, D], weighted_queries w Q' [N, H, 2D] bf16
// Grid      (C, Hkv) blocks of 128 threads for each of two query heads at work at once
// Tiles     as forward; one warp owns 16 query rows
// Memory    D = 64: 92 KB shared, D = 128: 193 KB. Reads q, do and o once, writes dq, dz, w Q' and
//           RoPE(q)
// Saves     δ, dz, w Q' and RoPE(q) for the kernels that follow
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_queries.cuh"

namespace tigon::cuda {
namespace {

/// Of the thread's two rows; the window's sums are the thread's share of them.
struct RowValues {
  float log2_sum_exp[2], far_weight[2], dot[2];
  float2 far_sum;                       // Σ y
  float window_mass[2], window_sum[2];  // Σ P, Σ dS
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

/// y₊ − y₋ by channel of z in bf16, and Σ y of both rows. `weighted` is where the first row of w Q'
/// goes, `decay_sums` where the tile's share of the gradient of log a goes.
template <int D>
__device__ float2 far_gradient(FragmentA (&difference)[D / 16], const JointQueryShared<D>& shared,
                               const QueryBlock& block, const Logits<D>& logits,
                               const FragmentA (&out_gradients)[D / 16], const RowValues& rows,
                               bf16* score_tile, bf16* weighted, int64_t stride,
                               float* decay_sums) {
  const int lane = block.lane, tile = block.tile;
#pragma unroll 1
  for (int t = 0; t <= tile; ++t) {
    const bf16* values = shared.values[0] + t * kTile * kRowStride<D>;
    FragmentC c = score_gradients<D>(out_gradients, values, rows, lane);
    if (t == tile) keep_lower(c, lane);
    bf16* target = score_tile + fragment_row(0, lane) * kRowStride<kChunkTokens> + 16 * t +
                   fragment_column(0, lane);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      store_pair(target + i % 2 * 8 * kRowStride<kChunkTokens> + i / 2 * 8, c.x[2 * i],
                 c.x[2 * i + 1]);
    }
  }
  __syncwarp();
  const float shift[2] = {0, 0};
  float slope[2], sum[2] = {0, 0};
  places_from_middle(slope, tile, lane);
  const float places[2] = {slope[0] / kLog2E, slope[1] / kLog2E};
  FragmentC both;
#pragma unroll
  for (int step = 0; step < 2 * D / 16; ++step) {
    const int half = step % 2, n = step / 2, channel = half * D + 16 * n;
    FragmentC y;
    y.clear();
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(y, out_gradients[g],
                   load_b<D>(shared.state + channel * kRowStride<D> + 16 * g, lane));
    }
#pragma unroll
    for (int t = 0; t < kChunkTiles; ++t) {
      if (t > tile) break;
      const bf16* keys = shared.mapped_keys + t * kTile * kRowStride<2 * D>;
      multiply_add(y, load_a<kChunkTokens>(score_tile + 16 * t, lane),
                   load_b_transposed<2 * D>(keys + channel, lane));
    }
    // Q' as the forward pass rounded it, so that sums that cancel there do here.
    FragmentC phi =
        widened(to_a(logits.mapped(half, n, shift, slope, shared.log_decay + half * D, lane)));
#pragma unroll
    for (int i = 0; i < 8; ++i) phi.x[i] *= rows.far_weight[i / 2 % 2];
    store_rows(weighted + channel, stride, to_a(phi), block.valid, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float mass = shared.masses[channel + fragment_column(i / 2, lane) + i % 2];
      const int row = i / 2 % 2;
      y.x[i] = phi.x[i] * (y.x[i] - rows.dot[row] * mass);
      sum[row] += y.x[i];
      both.x[i] = half == 0 ? y.x[i] : both.x[i] - y.x[i];
    }
    if (half == 1) difference[n] = to_a(both);
    store_column_sums(decay_sums + channel, y, places, lane);
  }
  return {row_sum(sum[0]), row_sum(sum[1])};
}

/// dz = difference − (φ₊ − φ₋) Σ y, in place.
template <int D>
__device__ void finish_logit_gradient(FragmentA (&difference)[D / 16], const Logits<D>& logits,
                                      float2 sum) {
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    const FragmentC positive = logits.mapped(0, n), negative = logits.mapped(1, n);
    FragmentC c = widened(difference[n]);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      c.x[i] -= (positive.x[i] - negative.x[i]) * (i / 2 % 2 == 0 ? sum.x : sum.y);
    }
    difference[n] = to_a(c);
  }
}

/// The head's rows from fragments.
template <int D>
__device__ void store_head(const HeadRows& target, const FragmentA (&rows)[D / 16],
                           const QueryBlock& block, int head) {
  bf16* first = head_of(target, block.token, head, D);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    store_rows(first + 16 * n, target.token_stride, rows[n], block.valid, block.lane);
  }
}

template <int D>
__global__ void __launch_bounds__(kQueryThreads, D == 64 ? 2 : 1)
    bwd_queries_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<BwdQueryShared<D>*>(memory);
  const QueryBlock block(p);
  const int lane = block.lane, valid = block.valid;
  FragmentC sums[D / 16];  // the gradient of the rotated queries
  FragmentA queries[D / 16], out_gradients[D / 16], logit_gradients[D / 16];
  RowValues rows;

  const auto begin = [&](int head) {
    if (head < 0) return;
    const auto load = [&] {
      load_query_rows<D>(queries, head_of(p.q, block.token, head, D), p.q.token_stride, valid,
                         lane);
    };
    // All rows are asked for before any is waited for.
    FragmentA outs[D / 16];
    load();
    load_query_rows<D>(out_gradients, head_of(p.out_gradient, block.token, head, D),
                       p.out_gradient.token_stride, valid, lane);
    load_query_rows<D>(outs, head_of(p.out, block.token, head, D), p.out.token_stride, valid, lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = min(fragment_row(half, lane), valid - 1);
      const int64_t at = (block.token + row) * p.heads + head;
      rows.far_weight[half] = p.far_weights[at];
      rows.log2_sum_exp[half] = p.log2_sum_exp[at];
      rows.window_mass[half] = rows.window_sum[half] = 0;
    }
    float dot[2] = {0, 0};
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 a = unpack(outs[g].x[i]), b = unpack(out_gradients[g].x[i]);
        dot[i % 2] += a.x * b.x + a.y * b.y;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows.dot[half] = row_sum(dot[half]);
      const int row = fragment_row(half, lane);
      if (lane % 4 != 0 || row >= valid) continue;
      p.row_dots[(block.token + row) * p.heads + head] = rows.dot[half];
    }
    rows.far_sum = {0, 0};
    for (FragmentA& a : logit_gradients) a = {};
    if (block.has_far) {
      Logits<D> logits;
      logits.make(queries, packed_head<D>(p.packed_w_q, head), p.b_q + head * D, lane);
      const int64_t tile = static_cast<int64_t>(blockIdx.x) * kChunkTiles + block.tile;
      rows.far_sum = far_gradient<D>(logit_gradients, shared, block, logits, out_gradients, rows,
                                     shared.score_tiles[threadIdx.x / 32],
                                     head_of(p.weighted_queries, block.token, head, 2 * D),
                                     p.weighted_queries.token_stride,
                                     p.query_decay_gradients + (tile * p.heads + head) * 2 * D);
      finish_logit_gradient<D>(logit_gradients, logits, rows.far_sum);
    }
    store_head<D>(p.query_logit_gradients, logit_gradients, block, head);
    for (FragmentC& c : sums) c.clear();
    load();  // again, rather than kept all the while
    rotate<D>(queries, p.rotations + block.token * D, valid, lane);
    store_head<D>(p.rotated_queries, queries, block, head);
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
        const int row = i / 2 % 2;
        const float probability = exp2_fast(scores.x[i] * scale_log2 - rows.log2_sum_exp[row]);
        const float gradient = probability * gradients.x[i];
        rows.window_mass[row] += probability;
        rows.window_sum[row] += gradient;
        scores.x[i] = gradient * p.softmax_scale;
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
#pragma unroll
    for (int n = 0; n < D / 32; ++n) {
      rotate_back<D>(sums[n], sums[n + D / 32], n, p.rotations + block.token * D, valid, lane);
    }
    if (block.has_far) {
      multiply_packed<D>(sums, logit_gradients, packed_head<D>(p.transposed_w_q, head), lane);
    }
#pragma unroll
    for (int n = 0; n < D / 16; ++n) queries[n] = to_a(sums[n]);
    store_head<D>(p.q_gradient, queries, block, head);
    const float far_sums[2] = {rows.far_sum.x, rows.far_sum.y};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // Both sums are the gradient, up to sign and to what δ lost when o was rounded: of that they
      // hold the far part's share and the window's, so that it cancels here.
      const float mass = row_sum(rows.window_mass[half]), sum = row_sum(rows.window_sum[half]);
      const int row = fragment_row(half, lane);
      if (lane % 4 != 0 || row >= valid) continue;
      p.log_mix_gradient[(block.token + row) * p.heads + head] =
          rows.far_weight[half] > 0 ? mass * far_sums[half] - (1 - mass) * sum : 0.0f;
    }
  };
  for_each_head<D>(static_cast<JointQueryShared<D>&>(shared), block, p, begin, visit, end);
}

}  // namespace

cudaError_t launch_joint_bwd_queries(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_queries_kernel<D>, grid, kQueryThreads,
                                     sizeof(BwdQueryShared<D>), params, stream);
  });
}

}  // namespace tigon::cuda
