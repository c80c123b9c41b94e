// Computes  dv and dk of one chunk and KV head, from its queries and those of the chunk after it:
//           dv_j = Σ_i ((1−mix) P_ij + mix A_ij) do_i + exp(b_end − b_j) φ(k_j) dS,
//           window: RoPE⁻¹(Σ_i dS_ij RoPE(q_i)), recurrence: y_j = φ(k_j) ⊙ dφ(k_j), dk += y − φ Σ
//           y, gates: d log a_t = Σ_{i ≥ t} (y of the queries − y of the keys) + d log decay of the
//           chunk, dk += d log a · σ(−k) / normalizer (0 where the gate was bounded)
//           Serves what liger_bwd_keys_hopper.cu does not: other GPUs, heads of 96
// Shapes    k, v, dk, dv [N, Hkv, D] bf16; query rows and their sums as bwd_queries wrote them
// Grid      (C, Hkv) blocks of two or three warps for each sub-chunk of keys, by what they sum
// Tiles     16 keys by 16 queries, scores transposed (keys are rows) and never stored
// Memory    D = 64: 113 KB shared, two blocks a multiprocessor; D = 128: 215 KB, one.
//           Reads q and do of every head of the group twice (from L2)
// Saves     recomputes scores from the log-sum-exp of the queries' kernel
// Order     heads, then query tiles, each in order; deterministic
#include <algorithm>
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/liger_attention/liger_key_sums.cuh"
#include "ops/liger_attention/liger_queries.cuh"

namespace tigon::cuda {
namespace {

/// Warps a sub-chunk of keys: one for dv, one for dk; with wide heads, whose sums fill a warp's
/// registers, one for the window's part of dk and one for the recurrence's.
template <int D>
constexpr int kRoles = D == 64 ? 2 : 3;
template <int D>
constexpr int kThreads = 32 * kSubChunks* kRoles<D>;

/// Puts the window's part of dk into shared memory.
template <int D>
__device__ void put_window_gradient(KeyShared<D>& shared, FragmentC (&rotated)[D / 16],
                                    const KeyBlock& block, const LigerParams& p) {
  const int lane = block.lane;
#pragma unroll
  for (int n = 0; n < D / 32; ++n) {
    rotate_back<D>(rotated[n], rotated[n + D / 32], n, p.rotations + block.token * D, block.valid,
                   lane);
  }
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = (block.tile * kTile + fragment_row(i, lane)) * kRowStride<D> + 16 * n +
                     fragment_column(i, lane);
      *reinterpret_cast<float2*>(shared.key_gradients() + at) = {rotated[n].x[2 * i],
                                                                 rotated[n].x[2 * i + 1]};
    }
  }
}

/// After the heads: k itself for the last steps, and Σ y of the queries over the heads of the
/// group.
template <int D>
__device__ void load_sums(KeyShared<D>& shared, const KeyBlock& block, const LigerParams& p) {
  constexpr int kPieces = D / 8;
  const int64_t first = block.chunk.first_token;
  load_rows<D>(shared.keys(), head_of(p.k, first, block.kv_head, D), p.k.token_stride, kChunkTokens,
               0, block.chunk.length);
  const int64_t y_stride = static_cast<int64_t>(p.heads) * D;
  const HeadRows query_y{p.query_gate_gradients, y_stride};
  for (int item = threadIdx.x; item < kChunkTokens * kPieces; item += blockDim.x) {
    const int row = item / kPieces, column = item % kPieces * 8;
    float2 sums[4] = {};
    const bf16* y = head_of(query_y, first + row, block.kv_head * block.group, D) + column;
    if (row < block.chunk.length) {
#pragma unroll 4
      for (int g = 0; g < block.group; ++g) {
        const uint4 piece = *reinterpret_cast<const uint4*>(y + g * D);
        const uint32_t pairs[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = unpack(pairs[i]);
          sums[i].x += pair.x;
          sums[i].y += pair.y;
        }
      }
    }
    float4* target =
        reinterpret_cast<float4*>(shared.gate_gradients() + row * kRowStride<D> + column);
    target[0] = {sums[0].x, sums[0].y, sums[1].x, sums[1].y};
    target[1] = {sums[2].x, sums[2].y, sums[3].x, sums[3].y};
  }
  wait_for_copies();
}

/// Adds the recurrence's part of dk, and takes y of the keys from Σ y of the queries.
template <int D>
__device__ void put_recurrence_gradient(KeyShared<D>& shared, const FragmentC (&y)[D / 16],
                                        const KeyBlock& block) {
  const int lane = block.lane;
  float sum[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i / 2 % 2] += y[n].x[i];
  }
  sum[0] = row_sum(sum[0]);
  sum[1] = row_sum(sum[1]);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = block.tile * kTile + fragment_row(i, lane);
      const int at = row * kRowStride<D> + 16 * n + fragment_column(i, lane);
      const float2 key = unpack(load_pair(shared.keys() + at));
      const RowSoftmax& softmax = shared.softmax[row];
      float2& gate = *reinterpret_cast<float2*>(shared.gate_gradients() + at);
      float2& gradient = *reinterpret_cast<float2*>(shared.key_gradients() + at);
      gate.x -= y[n].x[2 * i];
      gate.y -= y[n].x[2 * i + 1];
      gradient.x += y[n].x[2 * i] - softmax.value(key.x) * sum[i % 2];
      gradient.y += y[n].x[2 * i + 1] - softmax.value(key.y) * sum[i % 2];
    }
  }
}

/// Adds the gates' part and writes dk. One thread a channel and sub-chunk.
template <int D>
__device__ void store_key_gradients(KeyShared<D>& shared, const KeyBlock& block,
                                    const LigerParams& p) {
  const int64_t state = blockIdx.x * static_cast<int64_t>(p.kv_heads) + block.kv_head;
  for (int item = threadIdx.x; item < kSubChunks * D; item += blockDim.x) {
    const int first = item / D * kTile, channel = item % D;
    float sum = p.decay_gradients[state * D + channel];
    for (int row = kChunkTokens - 1; row >= first + kTile; --row) {
      sum += shared.gate_gradients()[row * kRowStride<D> + channel];
    }
    for (int row = first + kTile - 1; row >= first; --row) {
      const int at = row * kRowStride<D> + channel;
      sum += shared.gate_gradients()[at];
      if (row >= block.chunk.length) continue;
      const int64_t token = static_cast<int64_t>(block.chunk.first_token) + row;
      const float k = __bfloat162float(shared.keys()[at]);
      const bool is_bounded = log2_gate(k, p.inverse_normalizer) <= kLowestLogGate;
      const float slope = is_bounded ? 0.0f : p.inverse_normalizer / (1.0f + exp2_fast(k * kLog2E));
      head_of(p.k_gradient, token, block.kv_head, D)[channel] =
          __float2bfloat16_rn(shared.key_gradients()[at] + sum * slope);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads<D>, D == 64 ? 2 : 1)
    bwd_keys_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<KeyShared<D>*>(memory);
  KeyBlock block;
  block.chunk = p.chunks[blockIdx.x];
  const bool has_next =
      static_cast<int>(blockIdx.x) + 1 < p.chunk_count && !p.chunks[blockIdx.x + 1].is_first;
  block.next_length = has_next ? p.chunks[blockIdx.x + 1].length : 0;
  block.kv_head = blockIdx.y;
  block.group = p.heads / p.kv_heads;
  block.lane = threadIdx.x % 32;
  block.tile = threadIdx.x / 32 % kSubChunks;
  block.valid = block.chunk.length - block.tile * kTile;
  block.token = static_cast<int64_t>(block.chunk.first_token) + block.tile * kTile;
  const int role = threadIdx.x / 32 / kSubChunks;
  const bool makes_values = role == 0, makes_window = role == 1;
  const bool makes_recurrence = role == kRoles<D> - 1;

  prefetch_queries<D>(block, block.kv_head * block.group, p);
  load_keys<D>(shared, block, p);
  // dv or the gradient of the rotated keys; y, in a warp of its own or beside the latter.
  FragmentC all_sums[kRoles<D> == 3 ? 1 : 2][D / 16];
  for (auto& group : all_sums) {
    for (FragmentC& c : group) c.clear();
  }
  auto& sums = all_sums[0];
  auto& y = all_sums[kRoles<D> == 3 ? 0 : 1];
  if (makes_values) value_gradient_from_state<D>(sums, shared, block);
  if (makes_recurrence) key_gradient_from_state<D>(y, shared, block);
  for (int g = 0; g < block.group; ++g) {
    __syncthreads();
    load_queries<D>(shared, block, block.kv_head * block.group + g, p);
    if (g + 1 < block.group) prefetch_queries<D>(block, block.kv_head * block.group + g + 1, p);
    if (makes_values) add_value_gradient<D>(sums, shared, block, p);
    if (makes_window) add_window_gradient<D>(sums, shared, block, p);
    if (makes_recurrence) add_recurrence_gradient<D>(y, shared, block, p);
  }
  __syncthreads();
  if (makes_values) {
    bf16* target = head_of(p.v_gradient, block.token, block.kv_head, D);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(target + 16 * n, p.v_gradient.token_stride, sums[n], block.valid, block.lane);
    }
  }
  if (makes_window) put_window_gradient<D>(shared, sums, block, p);
  load_sums<D>(shared, block, p);
  __syncthreads();
  if (makes_recurrence) put_recurrence_gradient<D>(shared, y, block);
  __syncthreads();
  store_key_gradients<D>(shared, block, p);
}

}  // namespace

int liger_shared_memory(int head_dim) {
  int bytes = -1;
  with_head_dim(head_dim, [&](auto size) {
    constexpr int D = decltype(size)::value;
    bytes = static_cast<int>(std::max(sizeof(KeyShared<D>), sizeof(QueryShared<D>)));
    return cudaSuccess;
  });
  return bytes;
}

cudaError_t launch_liger_bwd_keys(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_keys_kernel<D>, grid, kThreads<D>, sizeof(KeyShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
