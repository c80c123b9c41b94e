// The far part's state before every chunk, forward and its gradient backward.
//
// Computes  T_c = Σ_s K'_s [v_s; 1]ᵀ over a chunk's tokens, then along each segment
//           S'_{c+1} = a^64 (S'_c + T_c); backward, with V the gradient of S',
//           direct_c = Σ_i (w Q')_i [do_i; −do_i·o_i]ᵀ over the queries that read S'_c,
//           V_c = direct_c + dT_c, dT_c = a^64 V_{c+1}, d log a = 64 Σ_c S'_c ⊙ V_c
// Shapes    states [C, Hkv, 2D, D] in bf16, accumulated in float32; masses [C, Hkv, 2D] float32
// Grid      forward: (S, Hkv, 4), a block walks one segment with a quarter of the state; backward:
// sums
//           of chunks, (C, Hkv, 2 halves of the channels) blocks of 256, and a scan, one warp for
//           each row of each segment's state
// Tiles     a chunk at a time; a warp owns 16 channels of the state by some or half of its columns
// Memory    forward reads K' once and v four times (from L2) and writes 4·D² bytes a chunk and KV
//           head. Backward sums and gradients share one buffer of that size, which the scan
//           overwrites as it goes
// Saves     states and masses for the backward pass
// Order     tokens, then heads, then chunks, each in order; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_pieces.cuh"
#include "ops/chunks/state_walk.cuh"
#include "ops/joint_attention/joint_column_sums.cuh"
#include "ops/joint_attention/joint_rows.cuh"
#include "ops/lane_sums.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kStateThreads;

/// Of two pairs of tiles: the one at work, and the next head's on their way.
template <int D>
struct SumsShared {
  alignas(16) bf16 left[2][kChunkTokens * kRowStride<D>];
  alignas(16) bf16 right[2][kChunkTokens * kRowStride<D>];
  float factors[2][kChunkTokens];
  float column_sums[2 * D];
};

/// Row `half`·D of the state of one chunk and head: an element's index divided by D.
template <int D>
__device__ int64_t first_state_row(const JointParams& p, int64_t index, int head, int half) {
  return ((index * p.kv_heads + head) * 2 + half) * D;
}

/// The rows of a state that a block walks with, and those of its last column, Σ K', which all
/// columns of `mass` hold alike.
template <int D>
struct JointWalk : StateWalk<D> {
  FragmentC mass;

  __device__ JointWalk() { mass.clear(); }

  /// Adds keys · [values; 1] over sub-chunk j.
  __device__ void add_all(const FragmentA& keys, const typename StateWalk<D>::Stage& stage, int j) {
    const uint32_t one_one = pack(1.0f, 1.0f);
    this->add(keys, stage, j);
    multiply_add(mass, keys, FragmentB{{one_one, one_one, one_one, one_one}});
  }
  __device__ void scale_all(const float (&factor)[2]) {
    this->scale_rows(factor[0], factor[1]);
#pragma unroll
    for (int i = 0; i < 8; ++i) mass.x[i] *= factor[i / 2 % 2];
  }
};

/// Clears keys of 16 from `valid` on, which may lie outside of 0 … 16.
__device__ inline void keep_first_keys(FragmentA& keys, int valid, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane % 4 * 2 + i / 2 * 8;
    if (token >= valid) keys.x[i] = 0;
    if (token + 1 >= valid) keys.x[i] &= 0x0000ffffu;
  }
}

/// The state before every chunk, and the one that each segment's last query sees:
/// a^(L − 33) (S'_m + Σ_{s < L} K'_s [v_s; 1]ᵀ) with L the length of the last chunk and m the chunk
/// that is leaving its window.
template <int D>
__global__ void __launch_bounds__(StateWalk<D>::kThreads) states_kernel(const JointParams p) {
  using Walk = StateWalk<D>;
  extern __shared__ __align__(16) char memory[];
  const int segment = blockIdx.x, head = blockIdx.y;
  const int first_row = blockIdx.z * Walk::kRows;
  const int begin = p.chunk_offsets[segment], count = p.chunk_offsets[segment + 1] - begin;
  const int64_t first_token = count > 0 ? p.chunks[begin].first_token : 0;
  const int last_length = count > 0 ? p.chunks[begin + count - 1].length : 0;
  const int leaving = count - 1 - p.window_chunks;
  JointWalk<D> state;
  const bool has_masses = state.column == 0 && state.lane % 4 == 0;
  // Of the thread's two rows, over `tokens` tokens.
  const auto make_decays = [&](float(&decays)[2], int tokens) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int channel = first_row + state.row + fragment_row(i, state.lane);
      const float log_decay = p.log_decay[static_cast<int64_t>(head) * 2 * D + channel];
      decays[i] = exp2_fast(kLog2E * log_decay * static_cast<float>(tokens));
    }
  };
  const auto store_final = [&](JointWalk<D>& final_state) {
    float* target = p.final_state + (first_state_row<D>(p, segment, head, 0) + first_row) * (D + 1);
    final_state.for_each_pair([&](int row, int column, const float* pair) {
      float* at = target + row * (D + 1) + column;
      at[0] = pair[0];
      at[1] = pair[1];
    });
    if (!has_masses) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = state.row + fragment_row(i, state.lane);
      target[row * (D + 1) + D] = final_state.mass.x[2 * i];
    }
  };
  if (leaving < 0) store_final(state);  // zeros
  float decays[2];
  make_decays(decays, kChunkTokens);
  Walk::walk(
      memory, count,
      [&](int n, typename Walk::Stage& stage) {
        const int64_t token = first_token + n * kChunkTokens;
        const int length = n + 1 < count ? kChunkTokens : last_length;
        Walk::load_keys(stage, head_of(p.mapped_keys, token, head, 2 * D) + first_row,
                        p.mapped_keys.token_stride, length);
        Walk::load_values(stage, head_of(p.v, token, head, D), p.v.token_stride, length);
      },
      [&](int n, const typename Walk::Stage& stage) {
        const int64_t row = first_state_row<D>(p, begin + n, head, 0) + first_row;
        state.store(static_cast<bf16*>(p.states) + row * D);
        if (has_masses) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            p.masses[row + state.row + fragment_row(i, state.lane)] = state.mass.x[2 * i];
          }
        }
        if (n == leaving) {
          JointWalk<D> final_state = state;
          for (int j = 0; j < kChunkTokens / kTile; ++j) {
            FragmentA keys = state.keys(stage, j);
            keep_first_keys(keys, last_length - j * kTile, state.lane);
            final_state.add_all(keys, stage, j);
          }
          float final_decays[2];
          make_decays(final_decays, last_length - kMiddlePlace - 1);
          final_state.scale_all(final_decays);
          store_final(final_state);
        }
#pragma unroll
        for (int j = 0; j < kChunkTokens / kTile; ++j) {
          state.add_all(state.keys(stage, j), stage, j);
        }
        state.scale_all(decays);
      });
}

/// Where the warp of a scan works: a row of one segment's state.
template <int D>
struct StateRow {
  static constexpr int kPairs = (D / 2 + 31) / 32;  // of columns, a lane

  int segment, head, row, lane;
  bool exists;

  __device__ explicit StateRow(const JointParams& p) {
    const int64_t warp = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / 32;
    lane = threadIdx.x % 32;
    row = static_cast<int>(warp % (2 * D));
    head = static_cast<int>(warp / (2 * D) % p.kv_heads);
    segment = static_cast<int>(warp / (2 * D) / p.kv_heads);
    exists = segment < p.segments;
  }
  __device__ bool has(int pair) const { return 2 * (lane + 32 * pair) < D; }
  __device__ int64_t index(const JointParams& p, int64_t chunk) const {
    return (chunk * p.kv_heads + head) * 2 * D + row;
  }
  __device__ bf16* at(void* states, const JointParams& p, int64_t chunk, int pair) const {
    return static_cast<bf16*>(states) + index(p, chunk) * D + 2 * (lane + 32 * pair);
  }
  __device__ float chunk_decay(const JointParams& p) const {
    return exp2_fast(kLog2E * kChunkTokens * p.log_decay[static_cast<int64_t>(head) * 2 * D + row]);
  }
};

constexpr int kAhead = 8;  // chunks whose loads are in flight: the scan waits for memory, not sums

/// What the queries of chunk blockIdx.x add to the gradient of the state they read.
template <int D>
__global__ void __launch_bounds__(kThreads) gradient_sums_kernel(const JointParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SumsShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, half = blockIdx.z, group = p.heads / p.kv_heads;
  const int64_t read = static_cast<int64_t>(blockIdx.x) - p.window_chunks;
  // The state before a segment's first chunk is zero and has no gradient.
  if (read <= p.chunk_offsets[chunk.segment]) return;

  const auto load = [&](int head, int slot) {
    const int64_t first = chunk.first_token;
    load_rows<D, kChunkTokens, kThreads>(shared.right[slot],
                                         head_of(p.out_gradient, first, head, D),
                                         p.out_gradient.token_stride, 0, chunk.length);
    load_rows<D, kChunkTokens, kThreads>(shared.left[slot],
                                         head_of(p.weighted_queries, first, head, 2 * D) + half * D,
                                         p.weighted_queries.token_stride, 0, chunk.length);
    for (int row = threadIdx.x; row < kChunkTokens; row += kThreads) {
      shared.factors[slot][row] =
          row < chunk.length ? -p.row_dots[(first + row) * p.heads + head] : 0.0f;
    }
  };
  StatePieces<D> state;
  ColumnSums<D> mass;
  load(kv_head * group, 0);
  for (int g = 0; g < group; ++g) {
    const int slot = g % 2;
    wait_for_copies();
    __syncthreads();  // the tiles are there, and those before are no longer read
    if (g + 1 < group) load(kv_head * group + g + 1, 1 - slot);
#pragma unroll
    for (int j = 0; j < kChunkTokens / kTile; ++j) {
      const int at = j * kTile * kRowStride<D>;
      state.add(shared.left[slot] + at, shared.right[slot] + at, threadIdx.x % 32);
    }
    mass.add(shared.left[slot], [&](int row) { return shared.factors[slot][row]; });
  }
  const float total = mass.total(shared.column_sums);
  const int64_t row = first_state_row<D>(p, read, kv_head, half);
  state.store(static_cast<bf16*>(p.state_gradients) + row * D, threadIdx.x % 32);
  if (threadIdx.x < D) p.mass_gradients[row + threadIdx.x] = total;
}

template <int D>
__global__ void __launch_bounds__(kThreads) gradient_scan_kernel(const JointParams p) {
  constexpr int kPairs = StateRow<D>::kPairs;
  const StateRow<D> row(p);
  if (!row.exists) return;
  const int begin = p.chunk_offsets[row.segment], end = p.chunk_offsets[row.segment + 1];
  const float decay = row.chunk_decay(p);
  // Of the state after the chunk at hand.
  float2 gradient[kPairs] = {};
  float mass_gradient = 0, decay_gradient = 0;
  for (int last = end - 1; last >= begin; last -= kAhead) {
    uint32_t direct[kAhead][kPairs], state[kAhead][kPairs];
    float direct_mass[kAhead], mass[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int chunk = last - a;
      // Chunks whose state no query reads, or which is zero, were not written.
      const bool is_read = chunk > begin && chunk + p.window_chunks < end;
      direct_mass[a] = is_read ? p.mass_gradients[row.index(p, chunk)] : 0.0f;
      mass[a] = is_read ? p.masses[row.index(p, chunk)] : 0.0f;
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const bool loads = is_read && row.has(i);
        direct[a][i] = loads ? load_pair(row.at(p.state_gradients, p, chunk, i)) : 0;
        state[a][i] = loads ? load_pair(row.at(p.states, p, chunk, i)) : 0;
      }
    }
    __syncwarp();
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int chunk = last - a;
      if (chunk < begin) break;
      mass_gradient *= decay;
      if (row.lane == 0) p.mass_gradients[row.index(p, chunk)] = mass_gradient;
      mass_gradient += direct_mass[a];
      if (row.lane == 0) decay_gradient += mass[a] * mass_gradient;
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const float2 added = unpack(direct[a][i]), before = unpack(state[a][i]);
        gradient[i].x *= decay;
        gradient[i].y *= decay;
        if (row.has(i)) {
          store_pair(row.at(p.state_gradients, p, chunk, i), gradient[i].x, gradient[i].y);
        }
        gradient[i].x += added.x;
        gradient[i].y += added.y;
        decay_gradient += before.x * gradient[i].x + before.y * gradient[i].y;
      }
    }
  }
  decay_gradient = sum_of_lanes(decay_gradient);
  if (row.lane == 0)
    p.state_decay_gradients[row.index(p, row.segment)] = kChunkTokens * decay_gradient;
}

int scan_blocks(const JointParams& p) {
  const int64_t warps = static_cast<int64_t>(p.segments) * p.kv_heads * 2 * p.head_dim;
  return static_cast<int>((warps * 32 + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t launch_joint_states(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    using Walk = StateWalk<D>;
    const dim3 grid(params.segments, params.kv_heads, 4);  // quarters of the state's rows
    return launch_with_shared_memory(states_kernel<D>, grid, Walk::kThreads,
                                     sizeof(typename Walk::Stage) * Walk::kStages, params, stream);
  });
}

cudaError_t launch_joint_bwd_states(const JointParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads, 2);
    const cudaError_t error = launch_with_shared_memory(gradient_sums_kernel<D>, grid, kThreads,
                                                        sizeof(SumsShared<D>), params, stream);
    if (error != cudaSuccess) return error;
    gradient_scan_kernel<D><<<scan_blocks(params), kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace tigon::cuda
