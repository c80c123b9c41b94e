// Computes  dv and dk of one chunk and KV head as liger_bwd_keys.cu does, on Hopper (sm_90a): see
//           there for the formulas
// Shapes    k, v, dk, dv [N, Hkv, D] bf16, D of 64 and 128; query rows and their sums as
//           bwd_queries wrote them
// Grid      (C, Hkv) blocks: a warpgroup sums for each 64 columns, one more brings and maps the
// next
//           queries meanwhile
// Tiles     64 keys by 64 queries, scores transposed (keys are rows) and never stored; a warp owns
//           16 keys
// Memory    D = 64: 109 KB shared, two blocks a multiprocessor; D = 128: 215 KB, one. Reads q and
//           do of every head of the group twice (once from L2)
// Saves     recomputes scores from the log-sum-exp of the queries' kernel
// Order     heads, then this chunk's queries and the next one's; deterministic
#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_hopper_sums.cuh"

namespace tigon::cuda {
namespace {

/// Registers of a thread that sums and of one that brings queries.
template <int D>
constexpr int kSumRegisters = D == 64 ? 168 : 184;
template <int D>
constexpr int kBringRegisters = D == 64 ? 88 : 136;

/// Writes dv.
__device__ void store_values(const KeySums& sums, const KeyPlace& place, const KeyBlock& block,
                             const LigerParams& p, int head_dim) {
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + place.tile * kTile;
  bf16* target = head_of(p.v_gradient, token, block.kv_head, head_dim) + place.column * kPanel;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    store_rows(target + 16 * n, p.v_gradient.token_stride, to_a(sums.values[n]),
               block.chunk.length - place.tile * kTile, place.lane);
  }
}

/// Puts the other sums into shared memory, and y's over the columns.
template <int D>
__device__ void put_sums(const KeySums& sums, HopperKeyShared<D>& shared, const KeyPlace& place) {
  float total[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 y = {sums.recurrence[n].x[2 * i], sums.recurrence[n].x[2 * i + 1]};
      const int row = place.tile * kTile + fragment_row(i, place.lane);
      const int column = kPanel * place.column + 16 * n + fragment_column(i, place.lane);
      const int at = sum_at<D>(row, column);
      *reinterpret_cast<float2*>(shared.key_sums() + at) = y;
      *reinterpret_cast<float2*>(shared.window_sums() + at) = {sums.window[n].x[2 * i],
                                                               sums.window[n].x[2 * i + 1]};
      total[i % 2] += y.x + y.y;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = row_sum(total[half]);
    const int row = place.tile * kTile + place.lane / 4 + 8 * half;
    if (place.lane % 4 == 0) shared.y_sums[place.column * kChunkTokens + row] = sum;
  }
}

/// Of the log-gate by its key; 0 where the gate was bounded.
__device__ inline float gate_slope(float k, float inverse_normalizer) {
  const float slope = inverse_normalizer * reciprocal(1.0f + exp2_fast(k * kLog2E));
  return log2_gate(k, inverse_normalizer) <= kLowestLogGate ? 0.0f : slope;
}

/// Brings all parts of dk together and writes it. One thread two channels of eight rows. All
/// threads.
template <int D>
__device__ void store_keys(HopperKeyShared<D>& shared, const KeyBlock& block,
                           const LigerParams& p) {
  constexpr int kRows = 8, kItems = kChunkTokens / kRows * (D / 2);
  const auto pair = [&](const float* tile, int row, int column) {
    return *reinterpret_cast<const float2*>(tile + sum_at<D>(row, column));
  };
  // What the log-gates of a row add to the gradients of all log-gates up to it.
  const auto gate_gradient = [&](int row, int channel) {
    const float2 q = pair(shared.query_sums(), row, channel);
    const float2 y = pair(shared.key_sums(), row, channel);
    return float2{q.x - y.x, q.y - y.y};
  };
  for (int item = threadIdx.x; item < kItems; item += kKeyThreads<D>) {
    const int first = item / (D / 2) * kRows, channel = item % (D / 2) * 2;
    float2 sum = {0, 0};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float2 gate = gate_gradient(first + i, channel);
      sum = {sum.x + gate.x, sum.y + gate.y};
    }
    *reinterpret_cast<float2*>(shared.gate_totals() + item / (D / 2) * D + channel) = sum;
  }
  __syncthreads();
  const int64_t state = blockIdx.x * static_cast<int64_t>(p.kv_heads) + block.kv_head;
  for (int item = threadIdx.x; item < kItems; item += kKeyThreads<D>) {
    const int first = item / (D / 2) * kRows, channel = item % (D / 2) * 2;
    const float sign = channel < D / 2 ? p.softmax_scale : -p.softmax_scale;
    float2 gate_sum = *reinterpret_cast<const float2*>(p.decay_gradients + state * D + channel);
    for (int later = kChunkTokens / kRows - 1; later > item / (D / 2); --later) {
      const float2 total =
          *reinterpret_cast<const float2*>(shared.gate_totals() + later * D + channel);
      gate_sum = {gate_sum.x + total.x, gate_sum.y + total.y};
    }
    bf16* target = head_of(p.k_gradient, block.chunk.first_token, block.kv_head, D) + channel;
#pragma unroll
    for (int row = first + kRows - 1; row >= first; --row) {
      const float2 gate = gate_gradient(row, channel), y = pair(shared.key_sums(), row, channel);
      gate_sum = {gate_sum.x + gate.x, gate_sum.y + gate.y};
      const float2 own = pair(shared.window_sums(), row, channel);
      const float2 other = pair(shared.window_sums(), row, channel ^ D / 2);
      const uint2 angles = *reinterpret_cast<const uint2*>(
          shared.angles + panel_at<D>(row, 2 * (channel % (D / 2))));
      const float2 even = angle_of(angles.x), odd = angle_of(angles.y);
      float y_sum = 0;
#pragma unroll
      for (int column = 0; column < kSumGroups<D>; ++column) {
        y_sum += shared.y_sums[column * kChunkTokens + row];
      }
      const float2 k = unpack(load_pair(shared.last_keys() + panel_at<D>(row, channel)));
      const RowSoftmax& softmax = shared.softmax[row];
      const float2 slope = {gate_slope(k.x, p.inverse_normalizer),
                            gate_slope(k.y, p.inverse_normalizer)};
      const float x = own.x * even.x * p.softmax_scale + other.x * even.y * sign + y.x +
                      gate_sum.x * slope.x - softmax.value(k.x) * y_sum;
      const float z = own.y * odd.x * p.softmax_scale + other.y * odd.y * sign + y.y +
                      gate_sum.y * slope.y - softmax.value(k.y) * y_sum;
      if (row < block.chunk.length) store_pair(target + row * p.k_gradient.token_stride, x, z);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kKeyThreads<D>, D == 64 ? 2 : 1)
    bwd_keys_hopper_kernel(const __grid_constant__ LigerParams p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<HopperKeyShared<D>*>(memory);
  const KeyBlock block(p);
  load_keys<D>(shared, block, p);
  if (threadIdx.x >= kSumThreads<D>) {
    give_registers<kBringRegisters<D>>();
    QueryLoader<D> loader(shared, block, p);
    loader.ask(0, block.kv_head * block.group);
    loader.run();
    __syncthreads();
    __syncthreads();
    store_keys<D>(shared, block, p);
  } else {
    take_registers<kSumRegisters<D>>();
    const KeyPlace place{block.warp % kSubChunks, block.warp / kSubChunks, block.lane};
    KeySums sums;
    sum_heads<D>(sums, shared, place, block, p);
    __syncthreads();
    put_sums<D>(sums, shared, place);
    __syncthreads();
    store_values(sums, place, block, p, D);
    store_keys<D>(shared, block, p);
  }
}

template <int D>
cudaError_t launch(const LigerParams& params, cudaStream_t stream) {
  const dim3 grid(params.chunk_count, params.kv_heads);
  return launch_with_shared_memory(bwd_keys_hopper_kernel<D>, grid, kKeyThreads<D>,
                                   sizeof(HopperKeyShared<D>), params, stream);
}

}  // namespace

bool has_liger_bwd_keys_hopper(int head_dim) {
  return head_dim == 64 || head_dim == 128;
}

cudaError_t launch_liger_bwd_keys_hopper(const LigerParams& params, cudaStream_t stream) {
  return params.head_dim == 64 ? launch<64>(params, stream) : launch<128>(params, stream);
}

}  // namespace tigon::cuda
