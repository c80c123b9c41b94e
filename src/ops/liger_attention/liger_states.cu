// The gradient of the recurrent state after every chunk.
//
// Computes  along each segment from its end: dadditions_c = Σ_i φ(q_i) exp(b_i) (mix·do_i)ᵀ over
//           the queries of the group,
//           dS_c = diag(exp b_end) dS_{c+1} + dadditions_c, d log decay_c = Σ_v S_{c+1} ⊙ dS_{c+1}
// Shapes    state gradients [C, Hkv, D, D] in bf16 (operands of the products), accumulated in
//           float32
// Grid      additions: (C, Hkv) blocks of 256; scans: one warp for each row of each segment's state
// Tiles     a chunk at a time; a warp owns 16 channels of the state by half of its columns
// Memory    per chunk and KV head 6·D² bytes: D = 64, 16 K tokens: 50 MB
// Saves     nothing
// Order     tokens, then heads, then chunks, each in order; deterministic
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_pieces.cuh"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kStateThreads;
static_assert(kThreads == 4 * kChunkTokens, "four threads a row of a chunk");

/// Where the warp of a scan works: a row of one segment's state.
template <int D>
struct StateRow {
  int segment, head, row, lane;
  bool exists;

  __device__ explicit StateRow(const LigerParams& p) {
    const int64_t warp = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / 32;
    lane = threadIdx.x % 32;
    row = static_cast<int>(warp % D);
    head = static_cast<int>(warp / D % p.kv_heads);
    segment = static_cast<int>(warp / D / p.kv_heads);
    exists = segment < p.segments;
  }
  /// Element of a [·, Hkv, D, D] tensor where this row's part of `lane` starts.
  __device__ int64_t element(const LigerParams& p, int64_t index) const {
    return ((index * p.kv_heads + head) * D + row) * D + lane * (D / 32);
  }
  __device__ int64_t decay(const LigerParams& p, int64_t chunk) const {
    return (chunk * p.kv_heads + head) * D + row;
  }
};

constexpr int kAhead = 4;  // chunks whose loads are in flight: the scan waits for memory, not sums

template <int D>
struct GradientAdditionsShared {
  alignas(16) bf16 keys[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 from_start[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 queries[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 gradients[kChunkTokens * kRowStride<D>];
  alignas(16) float decay[kSubChunks * D];
  RowSoftmax softmax[kChunkTokens];
};

template <int D>
__global__ void __launch_bounds__(kThreads) gradient_additions_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<GradientAdditionsShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads, lane = threadIdx.x % 32;
  load_rows<D>(shared.keys, head_of(p.k, chunk.first_token, kv_head, D), p.k.token_stride,
               kChunkTokens, 0, chunk.length);
  wait_for_copies();
  __syncthreads();
  make_chunk_keys<D>(
      {nullptr, shared.keys, shared.from_start, nullptr, shared.decay, shared.softmax},
      chunk.length, p.inverse_normalizer);

  // exp(c) → exp(b).
  for (int item = threadIdx.x; item < kChunkTokens * (D / 2); item += kThreads) {
    const int row = item / (D / 2), d = item % (D / 2) * 2;
    bf16* pair = shared.from_start + row * kRowStride<D> + d;
    float2 decay = unpack(load_pair(pair));
    for (int j = 0; j < row / kTile; ++j) {
      decay.x *= shared.decay[j * D + d];
      decay.y *= shared.decay[j * D + d + 1];
    }
    store_pair(pair, decay.x, decay.y);
  }

  StatePieces<D> state;
  for (int g = 0; g < group; ++g) {
    const int head = kv_head * group + g;
    __syncthreads();
    load_rows<D>(shared.queries, head_of(p.q, chunk.first_token, head, D), p.q.token_stride,
                 kChunkTokens, 0, chunk.length);
    load_rows<D>(shared.gradients, head_of(p.out_gradient, chunk.first_token, head, D),
                 p.out_gradient.token_stride, kChunkTokens, 0, chunk.length);
    wait_for_copies();
    __syncthreads();
    // φ(q) ⊙ exp(b) over q.
    {
      const int at = threadIdx.x / 4 * kRowStride<D>, quarter = threadIdx.x % 4;
      const RowQuarter<D> part(shared.queries + at, quarter);
      part.store_mapped(shared.queries + at, shared.from_start + at, part.softmax(), quarter);
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kSubChunks; ++j) {
      const int at = j * kTile * kRowStride<D>;
      state.add(shared.queries + at, shared.gradients + at, lane);
    }
  }
  for (auto& piece : state.sums) {
    for (FragmentC& c : piece) scale(c, p.mix);
  }
  const int64_t index = blockIdx.x * static_cast<int64_t>(p.kv_heads) + kv_head;
  state.store(p.state_gradient_additions + index * D * D, lane);
}

template <int D>
__global__ void __launch_bounds__(kThreads) gradient_scan_kernel(const LigerParams p) {
  constexpr int kEach = D / 32;
  const StateRow<D> row(p);
  if (!row.exists) return;
  const int begin = p.chunk_offsets[row.segment], end = p.chunk_offsets[row.segment + 1];
  const bf16* states = static_cast<const bf16*>(p.states);
  bf16* gradients = static_cast<bf16*>(p.state_gradients);
  float gradient[kEach], after[kEach];  // of and the state after the chunk at hand
  for (int i = 0; i < kEach; ++i) {
    const int64_t at = row.element(p, row.segment) + i;
    gradient[i] = p.final_state_gradient ? p.final_state_gradient[at] : 0.0f;
    after[i] = p.final_state[at];
  }
  for (int last = end - 1; last >= begin; last -= kAhead) {
    float added[kAhead][kEach], before[kAhead][kEach], decay[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int chunk = max(last - a, begin);
      decay[a] = p.decays[row.decay(p, chunk)];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        added[a][i] = p.state_gradient_additions[row.element(p, chunk) + i];
        before[a][i] = __bfloat162float(states[row.element(p, chunk) + i]);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (last - a < begin) break;
      float decay_gradient = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        decay_gradient += after[i] * gradient[i];
        gradients[row.element(p, last - a) + i] = __float2bfloat16_rn(gradient[i]);
        gradient[i] = gradient[i] * decay[a] + added[a][i];
        after[i] = before[a][i];
      }
      decay_gradient = warp_sum(decay_gradient);
      if (row.lane == 0) p.decay_gradients[row.decay(p, last - a)] = decay_gradient;
    }
  }
  if (p.initial_state_gradient == nullptr) return;
  for (int i = 0; i < kEach; ++i) {
    p.initial_state_gradient[row.element(p, row.segment) + i] = gradient[i];
  }
}

int scan_blocks(const LigerParams& p) {
  const int64_t warps = static_cast<int64_t>(p.segments) * p.kv_heads * p.head_dim;
  return static_cast<int>((warps * 32 + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t launch_liger_bwd_states(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    const cudaError_t error =
        launch_with_shared_memory(gradient_additions_kernel<D>, grid, kThreads,
                                  sizeof(GradientAdditionsShared<D>), params, stream);
    if (error != cudaSuccess) return error;
    gradient_scan_kernel<D><<<scan_blocks(params), kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace tigon::cuda
