// Computes  o = (Σ_window e^s v + e^log_mix N) / (Σ_window e^s + e^log_mix Z), for one chunk and KV
//           head with all query heads of its group. The far part comes first, as one key of score
//           log_mix + log Z and value N/Z; the window's chunks follow as in any online softmax
// Shapes    q [N, H, D], k and v [N, Hkv, D], K' [N, Hkv, 2D], out [N, H, D], bf16
// Grid      (C, Hkv) blocks of 128 threads for each of two query heads at work at once
// Tiles     chunks of 64 keys; a warp owns 16 query rows of a head: its scores and its output stay
//           in registers
// Memory    D = 64: 99 KB shared, two blocks a multiprocessor; D = 128: 223 KB, one. Reads q once,
//           k and v 1 + W times (from L2), writes out and two numbers a row
// Saves     log2 of the denominator, and the far part's weight in it
// Order     fixed; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/joint_attention/joint_queries.cuh"

namespace tigon::cuda {
namespace {

constexpr float kLeastMass = 1e-30f;
/// Below every score; finite, so that differences are numbers.
constexpr float kLowestScore = -1e30f;

/// Of 16 rows, of which a thread knows two: the sum of e^score v, scaled by e^largest, and of
/// e^score, of which it holds its own share.
template <int D>
struct OnlineSoftmax {
  FragmentC out[D / 16];
  float largest[2], sum[2];  // base 2

  __device__ void clear() {
    for (FragmentC& c : out) c.clear();
    for (int half = 0; half < 2; ++half) {
      largest[half] = kLowestScore;
      sum[half] = 0;
    }
  }
};

/// Q' (S' + Σ K' v), into `out`; returns Z of both rows.
template <int D>
__device__ float2 far_sums(FragmentC (&out)[D / 16], const JointQueryShared<D>& shared,
                           const QueryBlock& block, const Logits<D>& logits) {
  const int lane = block.lane, tile = block.tile;
  // By distance in tiles; 0 is the queries' own place.
  FragmentC scores[kChunkTiles];
  for (FragmentC& c : scores) c.clear();
  const float shift[2] = {0, 0};
  float mass[2] = {0, 0}, slope[2];
  places_from_middle(slope, tile, lane);
#pragma unroll
  for (int g = 0; g < 2 * D / 16; ++g) {
    const int half = g % 2, channel = half * D + g / 2 * 16;
    const FragmentA a =
        to_a(logits.mapped(half, g / 2, shift, slope, shared.log_decay + half * D, lane));
    const FragmentC phi = widened(a);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      mass[i / 2 % 2] += phi.x[i] * shared.masses[channel + fragment_column(i / 2, lane) + i % 2];
    }
    const bf16* state = shared.state + channel * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(out[n], a, load_b_transposed<D>(state + 16 * n, lane));
    }
#pragma unroll
    for (int distance = 0; distance < kChunkTiles; ++distance) {
      if (distance > tile) break;
      const bf16* keys = shared.mapped_keys + (tile - distance) * kTile * kRowStride<2 * D>;
      multiply_add(scores[distance], a, load_b<2 * D>(keys + channel, lane));
    }
  }
  keep_lower(scores[0], lane);
#pragma unroll
  for (int distance = 0; distance < kChunkTiles; ++distance) {
    if (distance > tile) break;
    const FragmentA a = to_a(scores[distance]);
    const FragmentC rounded = widened(a);  // as the values are weighted
#pragma unroll
    for (int i = 0; i < 8; ++i) mass[i / 2 % 2] += rounded.x[i];
    const bf16* values = shared.values[0] + (tile - distance) * kTile * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(out[n], a, load_b_transposed<D>(values + 16 * n, lane));
    }
  }
  return {row_sum(mass[0]), row_sum(mass[1])};
}

/// Makes the far sums one key of an online softmax that has seen nothing else. Where their mass is
/// lost, log2_mix becomes −∞.
template <int D>
__device__ void begin_with_far(OnlineSoftmax<D>& softmax, float2 mass, float (&log2_mix)[2],
                               int lane) {
  const float masses[2] = {mass.x, mass.y};
  float scale[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool has_far = masses[half] > kLeastMass;
    if (!has_far) log2_mix[half] = -INFINITY;
    const float score = has_far ? log2_mix[half] + log2_fast(masses[half]) : kLowestScore;
    softmax.largest[half] = fmaxf(score, kLowestScore);
    const float weight = has_far ? exp2_fast(score - softmax.largest[half]) : 0.0f;
    softmax.sum[half] = lane % 4 == 0 ? weight : 0.0f;
    scale[half] = has_far ? weight / masses[half] : 0.0f;
  }
#pragma unroll
  for (FragmentC& c : softmax.out) {
#pragma unroll
    for (int i = 0; i < 8; ++i) c.x[i] *= scale[i / 2 % 2];
  }
}

/// One chunk of the window.
template <int D>
__device__ void add_window(OnlineSoftmax<D>& softmax, const JointQueryShared<D>& shared,
                           const QueryBlock& block, const FragmentA (&rotated_queries)[D / 16],
                           int index, float scale_log2) {
  const int lane = block.lane;
  const Window window = block.window(index);
  FragmentC scores[kChunkTiles];
  float largest[2] = {softmax.largest[0], softmax.largest[1]};
#pragma unroll
  for (int t = 0; t < kChunkTiles; ++t) {
    if (!sees_tile(window, t, block.tile)) {
      fill(scores[t], -INFINITY);
      continue;
    }
    scores[t].clear();
    const bf16* keys = shared.rotated_keys[index % 2] + t * kTile * kRowStride<D>;
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(scores[t], rotated_queries[g], load_b<D>(keys + 16 * g, lane));
    }
    scale(scores[t], scale_log2);
    hide_unseen(scores[t], window, t, block.tile, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) largest[i / 2 % 2] = fmaxf(largest[i / 2 % 2], scores[t].x[i]);
  }
  float scales[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    largest[half] = row_max(largest[half]);
    scales[half] = exp2_fast(softmax.largest[half] - largest[half]);
    softmax.largest[half] = largest[half];
    softmax.sum[half] *= scales[half];
  }
#pragma unroll
  for (FragmentC& c : softmax.out) {
#pragma unroll
    for (int i = 0; i < 8; ++i) c.x[i] *= scales[i / 2 % 2];
  }
#pragma unroll
  for (int t = 0; t < kChunkTiles; ++t) {
    if (!sees_tile(window, t, block.tile)) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      scores[t].x[i] = exp2_fast(scores[t].x[i] - largest[i / 2 % 2]);
      softmax.sum[i / 2 % 2] += scores[t].x[i];
    }
    const FragmentA a = to_a(scores[t]);
    const bf16* values = shared.values[index % 2] + t * kTile * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(softmax.out[n], a, load_b_transposed<D>(values + 16 * n, lane));
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kQueryThreads, D == 64 ? 2 : 1) fwd_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<FwdQueryShared<D>*>(memory);
  const QueryBlock block(p);
  const int lane = block.lane;
  OnlineSoftmax<D> softmax;
  FragmentA queries[D / 16];
  float log2_mix[2];
  // The next head's queries are on their way while this one's are worked on.
  bf16* rows = shared.warp_rows[threadIdx.x / 32];
  const auto start_queries = [&](int head) {
    start_warp_rows<D>(rows, head_of(p.q, block.token, head, D), p.q.token_stride, block.valid,
                       lane);
  };
  if (block.first_head() >= 0) start_queries(block.first_head());
  load_rotations<D>(shared, block, p);

  const auto begin = [&](int head) {
    if (head < 0) return;
    softmax.clear();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = min(fragment_row(half, lane), block.valid - 1);
      const float mix = p.log_mix[(block.token + row) * p.heads + head];
      log2_mix[half] = block.has_far ? kLog2E * mix : -INFINITY;
    }
    if (block.has_far) {
      finish_warp_rows<D>(queries, rows, lane);
      Logits<D> logits;
      logits.make(queries, packed_head<D>(p.packed_w_q, head), p.b_q + head * D, lane);
      const float2 mass = far_sums<D>(softmax.out, shared, block, logits);
      begin_with_far<D>(softmax, mass, log2_mix, lane);
    }
    finish_warp_rows<D>(queries, rows, lane);  // again, rather than kept all the while
    __syncwarp();
    if (block.next_head(head) >= 0) start_queries(block.next_head(head));
    rotate<D>(queries,
              [&](int group, int i) { return rotation_of_query<D>(shared, block, group, i); });
  };
  const auto visit = [&](int head, int index) {
    if (head < 0) return;
    add_window<D>(softmax, shared, block, queries, index, p.softmax_scale * kLog2E);
  };
  const auto end = [&](int head) {
    if (head < 0) return;
    float scales[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = row_sum(softmax.sum[half]);
      scales[half] = 1.0f / sum;
      const int row = fragment_row(half, lane);
      if (lane % 4 != 0 || row >= block.valid) continue;
      const float log2_sum = softmax.largest[half] + log2_fast(sum);
      const int64_t at = (block.token + row) * p.heads + head;
      p.log2_sum_exp[at] = log2_sum;
      p.far_weights[at] = exp2_fast(log2_mix[half] - log2_sum);
    }
    bf16* target = head_of(p.out, block.token, head, D);
#pragma unroll
    for (FragmentC& c : softmax.out) {
#pragma unroll
      for (int i = 0; i < 8; ++i) c.x[i] *= scales[i / 2 % 2];
    }
#pragma unroll
    for (int n = 0; n < D / 16; n += 2) {
      store_rows(target + 16 * n, p.out.token_stride, to_a(softmax.out[n]),
                 to_a(softmax.out[n + 1]), block.valid, lane);
    }
  };
  for_each_head<D>(static_cast<JointQueryShared<D>&>(shared), block, p, begin, visit, end);
}

}  // namespace

cudaError_t launch_joint_fwd(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(fwd_kernel<D>, grid, kQueryThreads, sizeof(FwdQueryShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
