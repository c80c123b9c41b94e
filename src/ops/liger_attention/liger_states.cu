// The gradient of the recurrent state after every chunk.
//
// Computes  along each segment from its end: dadditions_c = Σ_i φ(q_i) exp(b_i) (mix·do_i)ᵀ over
//           the queries of the group,
//           dS_c = diag(exp b_end) dS_{c+1} + dadditions_c, d log decay_c = Σ_v S_{c+1} ⊙ dS_{c+1}
// Shapes    state gradients [C, Hkv, D, D] in bf16 (operands of the products), accumulated in
//           float32
// Grid      additions: (C, Hkv) blocks of 256; scans: one warp for each row of each segment's state
// Tiles     a chunk at a time; a warp owns 16 channels of the state by half of its columns
// Memory    per chunk and KV head 4·D² bytes: D = 64, 16 K tokens: 34 MB
// Saves     nothing
// Order     tokens, then heads, then chunks, each in order; deterministic
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/chunks/state_pieces.cuh"
#include "ops/lane_sums.cuh"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {
namespace {

constexpr int kThreads = kStateThreads;
static_assert(kThreads == 4 * kChunkTokens, "four threads a row of a chunk");

/// The gates of a sub-chunk's keys, two neighbouring channels; 1 for rows from `length` on. Without
/// branches, which would make the rows wait for each other.
template <int D>
__device__ void load_gates(float2 (&gates)[kTile], const bf16* keys, int sub_chunk, int channel,
                           int length, float inverse_normalizer) {
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const int row = sub_chunk * kTile + i;
    const float2 k = unpack(load_pair(keys + row * kRowStride<D> + channel));
    const float lowest = row < length ? 0.0f : 1.0f;
    gates[i] = {fmaxf(exp2_fast(log2_gate(k.x, inverse_normalizer)), lowest),
                fmaxf(exp2_fast(log2_gate(k.y, inverse_normalizer)), lowest)};
  }
}

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

/// Neighbouring numbers of one lane.
template <int kEach>
__device__ void load_each(float (&x)[kEach], const bf16* source) {
  if constexpr (kEach == 4) {
    const uint2 words = *reinterpret_cast<const uint2*>(source);
    const float2 low = unpack(words.x), high = unpack(words.y);
    x[0] = low.x, x[1] = low.y, x[2] = high.x, x[3] = high.y;
  } else if constexpr (kEach == 2) {
    const float2 pair = unpack(load_pair(source));
    x[0] = pair.x, x[1] = pair.y;
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[i] = __bfloat162float(source[i]);
  }
}
template <int kEach>
__device__ void store_each(bf16* target, const float (&x)[kEach]) {
  if constexpr (kEach == 4) {
    *reinterpret_cast<uint2*>(target) = {pack(x[0], x[1]), pack(x[2], x[3])};
  } else if constexpr (kEach == 2) {
    store_pair(target, x[0], x[1]);
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) target[i] = __float2bfloat16_rn(x[i]);
  }
}

constexpr int kAhead = 4;  // chunks whose loads are in flight: the scan waits for memory, not sums

/// φ(q) ⊙ exp(b) and the upstream gradients of two heads, one worked on and one on its way.
template <int D>
struct GradientAdditionsShared {
  alignas(16) bf16 queries[2][kChunkTokens * kRowStride<D>];
  alignas(16) bf16 gradients[2][kChunkTokens * kRowStride<D>];
  alignas(16) float decay[kSubChunks * D];

  // Before the heads.
  __device__ bf16* keys() { return queries[1]; }
  __device__ bf16* from_start() { return gradients[1]; }  // exp(c)
};

/// exp(b) of a quarter of a row, in pairs as RowQuarter has the row itself.
template <int D>
struct QuarterGates {
  uint32_t x[RowQuarter<D>::kPieces][4];

  __device__ QuarterGates(const bf16* from_start, const float* decay, int row, int quarter) {
    float2 gates[RowQuarter<D>::kPieces][4];
    const auto for_each_pair = [&](auto visit) {
#pragma unroll
      for (int i = 0; i < RowQuarter<D>::kPieces; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) visit(i, j, 8 * (4 * i + quarter) + 2 * j);
      }
    };
    for_each_pair([&](int i, int j, int channel) {
      gates[i][j] = unpack(load_pair(from_start + row * kRowStride<D> + channel));
    });
#pragma unroll 1
    for (int earlier = 0; earlier < row / kTile; ++earlier) {
      for_each_pair([&](int i, int j, int channel) {
        const float2 whole = *reinterpret_cast<const float2*>(decay + earlier * D + channel);
        gates[i][j] = {gates[i][j].x * whole.x, gates[i][j].y * whole.y};
      });
    }
    for_each_pair([&](int i, int j, int) { x[i][j] = pack(gates[i][j].x, gates[i][j].y); });
  }

  /// target = φ(q) ⊙ exp(b); `target` is the row's first element.
  __device__ void store_mapped(bf16* target, const RowQuarter<D>& part, int quarter) const {
    const RowSoftmax softmax = part.softmax();
#pragma unroll
    for (int i = 0; i < RowQuarter<D>::kPieces; ++i) {
      const uint32_t words[4] = {part.x[i].x, part.x[i].y, part.x[i].z, part.x[i].w};
      uint32_t out[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 q = unpack(words[j]), gate = unpack(x[i][j]);
        out[j] = pack(softmax.value(q.x) * gate.x, softmax.value(q.y) * gate.y);
      }
      reinterpret_cast<uint4*>(target)[4 * i + quarter] = {out[0], out[1], out[2], out[3]};
    }
  }
};

template <int D>
__global__ void __launch_bounds__(kThreads, D == 64 ? 4 : 2)
    gradient_additions_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<GradientAdditionsShared<D>*>(memory);
  const Chunk chunk = p.chunks[blockIdx.x];
  const int kv_head = blockIdx.y, group = p.heads / p.kv_heads, lane = threadIdx.x % 32;
  const int row = threadIdx.x / 4, quarter = threadIdx.x % 4;
  // Upstream gradients of rows that are not there are 0, so that their queries do not matter.
  const int64_t token = chunk.first_token + min(row, chunk.length - 1);
  const auto query = [&](int g) {
    return RowQuarter<D>(head_of(p.q, token, kv_head * group + g, D), quarter);
  };
  const auto load_gradients = [&](int g) {
    load_rows<D>(shared.gradients[g % 2],
                 head_of(p.out_gradient, chunk.first_token, kv_head * group + g, D),
                 p.out_gradient.token_stride, kChunkTokens, 0, chunk.length);
  };
  RowQuarter<D> part = query(0);
  load_gradients(0);
  load_rows<D>(shared.keys(), head_of(p.k, chunk.first_token, kv_head, D), p.k.token_stride,
               kChunkTokens, 0, chunk.length);
  wait_for_copies();
  __syncthreads();
  for (int item = threadIdx.x; item < kSubChunks * (D / 2); item += kThreads) {
    const int j = item / (D / 2), channel = item % (D / 2) * 2;
    float2 gates[kTile], decay = {1, 1};
    load_gates<D>(gates, shared.keys(), j, channel, chunk.length, p.inverse_normalizer);
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      decay = {decay.x * gates[i].x, decay.y * gates[i].y};
      store_pair(shared.from_start() + (j * kTile + i) * kRowStride<D> + channel, decay.x, decay.y);
    }
    *reinterpret_cast<float2*>(shared.decay + j * D + channel) = decay;
  }
  __syncthreads();
  const QuarterGates<D> gates(shared.from_start(), shared.decay, row, quarter);

  StatePieces<D> state;
#pragma unroll 1
  for (int g = 0; g < group; ++g) {
    gates.store_mapped(shared.queries[g % 2] + row * kRowStride<D>, part, quarter);
    wait_for_copies();
    __syncthreads();
    // All have done with the head before, whose place the next one takes.
    if (g + 1 < group) {
      load_gradients(g + 1);
      part = query(g + 1);
    }
#pragma unroll
    for (int j = 0; j < kSubChunks; ++j) {
      const int at = j * kTile * kRowStride<D>;
      state.add(shared.queries[g % 2] + at, shared.gradients[g % 2] + at, lane);
    }
  }
  for (auto& piece : state.sums) {
    for (FragmentC& c : piece) scale(c, p.mix);
  }
  const int64_t index = blockIdx.x * static_cast<int64_t>(p.kv_heads) + kv_head;
  state.store(static_cast<bf16*>(p.state_gradient_additions) + index * D * D, lane);
}

template <int D>
__global__ void __launch_bounds__(kThreads) gradient_scan_kernel(const LigerParams p) {
  constexpr int kEach = D / 32;
  const StateRow<D> row(p);
  if (!row.exists) return;
  const int begin = p.chunk_offsets[row.segment], end = p.chunk_offsets[row.segment + 1];
  const bf16* states = static_cast<const bf16*>(p.states);
  const bf16* additions = static_cast<const bf16*>(p.state_gradient_additions);
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
      load_each(added[a], additions + row.element(p, chunk));
      load_each(before[a], states + row.element(p, chunk));
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (last - a < begin) break;
      float decay_gradient = 0;
      store_each(gradients + row.element(p, last - a), gradient);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        decay_gradient += after[i] * gradient[i];
        gradient[i] = gradient[i] * decay[a] + added[a][i];
        after[i] = before[a][i];
      }
      decay_gradient = sum_of_lanes(decay_gradient);
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
