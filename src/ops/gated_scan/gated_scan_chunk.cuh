// What every kernel of gated_scan does with one chunk: gates, keys and rows in the order in which
// a thread of a warp holds them.
//
// Positions. A thread's part of a fragment's row is four pairs of channels, 8 apart, out of 32. The
// tiles here hold channel 8a + 2b + e (a, b < 4, e < 2) of 32 at position 8b + 2a + e, so that
// these four pairs are 16 neighbouring bytes of a row in device memory. Products do not ask in
// which order their sums run.
//
// Gates are treated as liger_chunk.cuh says, with sub-chunks of 16 tokens.
#pragma once
#include <type_traits>

#include "ops/chunks/chunk_launch.cuh"
#include "ops/gated_scan/gated_scan_params.h"
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {

/// Where a tile holds a channel; also which channel a position holds.
__device__ inline int position_of(int channel) {
  return (channel & ~30) | (channel >> 3 & 3) << 1 | (channel >> 1 & 3) << 3;
}

/// Elements from one row of a tile of `columns` to the next.
__host__ __device__ constexpr int row_stride(int columns) {
  return columns + kRowPadding;
}

/// One chunk and state head: what a block works on.
struct ScanBlock {
  Chunk chunk;
  int64_t index;  // of the chunk and state head together
  int state_head, key_head, value_head, gate_head;
  int first_head, group;  // query heads of the state
  int warp, lane;
};

__device__ inline ScanBlock make_block(const GatedScanParams& p) {
  ScanBlock block;
  block.chunk = p.chunks[blockIdx.x];
  block.state_head = blockIdx.y;
  block.index = blockIdx.x * static_cast<int64_t>(p.state_heads) + block.state_head;
  block.key_head = block.state_head * p.key_heads / p.state_heads;
  block.value_head = block.state_head * p.value_heads / p.state_heads;
  block.gate_head = block.state_head * p.gate_heads / p.state_heads;
  block.group = p.heads / p.state_heads;
  block.first_head = block.state_head * block.group;
  block.warp = threadIdx.x / 32;
  block.lane = threadIdx.x % 32;
  return block;
}

__device__ inline bf16* row_of(const ScanRows& rows, int64_t token, int head) {
  return static_cast<bf16*>(rows.data) + token * rows.token_stride +
         static_cast<int64_t>(head) * rows.head_stride;
}

/// Rows apart in elements.
__device__ inline int64_t rows_apart(int rows, int stride) {
  return static_cast<int64_t>(rows) * stride;
}

__device__ inline void load_gate(float& gate, const float* pointer, bool) {
  gate = *pointer;
}
__device__ inline void load_gate(float& gate, const bf16* pointer, bool) {
  gate = __bfloat162float(*pointer);
}
__device__ inline void load_gate(float2& gate, const float* pointer, bool is_per_head) {
  if (is_per_head) {
    gate.x = gate.y = *pointer;
  } else {
    gate = *reinterpret_cast<const float2*>(pointer);
  }
}
__device__ inline void load_gate(float2& gate, const bf16* pointer, bool is_per_head) {
  if (is_per_head) {
    gate.x = gate.y = __bfloat162float(*pointer);
  } else {
    gate = unpack(load_pair(pointer));
  }
}

/// To base 2, or 0 where there is no token.
__device__ inline float log2_of(float log_gate, bool is_there) {
  return is_there ? log_gate * kLog2E : 0.0f;
}
__device__ inline float2 log2_of(float2 log_gate, bool is_there) {
  return {log2_of(log_gate.x, is_there), log2_of(log_gate.y, is_there)};
}

/// Log-gates of 16 tokens from the first's address, of one channel (Gate = float) or two
/// neighbouring ones (float2); those after row `last` are the last's. All loads are on their way
/// before any is waited for.
template <typename Gate, typename T>
__device__ void load_log_gates(Gate (&log_gate)[kTile], const T* first, int token_stride, int last,
                               bool is_per_head) {
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    load_gate(log_gate[i], first + rows_apart(min(i, last), token_stride), is_per_head);
  }
}

/// The same in base 2 of one of a block's sub-chunks; 0 from row `length` of the chunk on.
template <typename Gate>
__device__ void load_log2_gates(Gate (&log_gate)[kTile], const GatedScanParams& p,
                                const ScanBlock& block, int sub_chunk, int channel) {
  const ScanGates& gates = p.log_gate;
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + sub_chunk * kTile;
  const int64_t at = token * gates.token_stride +
                     static_cast<int64_t>(block.gate_head) * gates.head_stride +
                     (gates.is_per_head ? 0 : channel);
  const int last = block.chunk.length - 1 - sub_chunk * kTile;
  const auto load = [&](const auto* data) {
    // One branch around all loads, not one around each.
    if (gates.is_per_head) {
      load_log_gates(log_gate, data + at, gates.token_stride, last, true);
    } else {
      load_log_gates(log_gate, data + at, gates.token_stride, last, false);
    }
  };
  if (gates.is_bf16) {
    load(static_cast<const bf16*>(gates.data));
  } else {
    load(static_cast<const float*>(gates.data));
  }
#pragma unroll
  for (int i = 0; i < kTile; ++i) log_gate[i] = log2_of(log_gate[i], i <= last);
}

/// The gates themselves; 1 from row `length` of the chunk on.
__device__ inline void load_gates(float2 (&gate)[kTile], const GatedScanParams& p,
                                  const ScanBlock& block, int sub_chunk, int channel) {
  load_log2_gates(gate, p, block, sub_chunk, channel);
#pragma unroll
  for (float2& pair : gate) pair = {exp2_fast(pair.x), exp2_fast(pair.y)};
}

/// The keys of 16 tokens and two neighbouring channels; those from row `length` of the chunk on are
/// the last row's.
__device__ inline void load_keys(uint32_t (&key)[kTile], const GatedScanParams& p,
                                 const ScanBlock& block, int sub_chunk, int channel) {
  const int64_t token = static_cast<int64_t>(block.chunk.first_token) + sub_chunk * kTile;
  const bf16* source = row_of(p.k, token, block.key_head) + channel;
  const int last = block.chunk.length - 1 - sub_chunk * kTile;
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    key[i] = load_pair(source + rows_apart(min(i, last), p.k.token_stride));
  }
}

/// A chunk's keys and decays in shared memory: tiles of 64 rows of K. Null ones are not made.
struct ScanTiles {
  bf16* to_end;       // k ⊙ exp(T − c), by position
  bf16* to_middle;    // k ⊙ exp(m − c), by position
  bf16* from_start;   // exp(c), in the channels' order
  bf16* from_middle;  // exp(c − m), in the channels' order
  float* decay;       // [4, K] exp(T), by position
};

/// All threads of the block. Wait for the tiles with a barrier.
template <int K>
__device__ void make_tiles(const ScanTiles& tiles, const GatedScanParams& p,
                           const ScanBlock& block) {
  constexpr int kItems = kSubChunks * (K / 2);
  constexpr int kStride = row_stride(K);
  // The halves of the work: what meets other sub-chunks, and what meets the own one.
  const int items = tiles.to_middle ? 2 * kItems : kItems;
  for (int item = threadIdx.x; item < items; item += blockDim.x) {
    const bool is_own = item >= kItems;
    const int sub_chunk = item % kItems / (K / 2), channel = item % (K / 2) * 2;
    const int by_channel = sub_chunk * kTile * kStride + channel;
    const int by_position = sub_chunk * kTile * kStride + position_of(channel);
    uint32_t key[kTile] = {};
    float2 gate[kTile];
    if (tiles.to_end) load_keys(key, p, block, sub_chunk, channel);
    load_gates(gate, p, block, sub_chunk, channel);
    const int length = block.chunk.length - sub_chunk * kTile;
    const auto put_key = [&](bf16* tile, int i, float2 decay) {
      const float2 k = unpack(i < length ? key[i] : 0);
      store_pair(tile + by_position + i * kStride, k.x * decay.x, k.y * decay.y);
    };
    const auto nothing = [](auto...) {};
    if (is_own) {
      visit_decays(gate, nothing, nothing, [&](int i, float2 to_middle, float2 from_middle) {
        put_key(tiles.to_middle, i, to_middle);
        store_pair(tiles.from_middle + by_channel + i * kStride, from_middle.x, from_middle.y);
      });
      continue;
    }
    const float2 whole = visit_decays(
        gate,
        [&](int i, float2 decay) {
          if (!tiles.from_start) return;
          store_pair(tiles.from_start + by_channel + i * kStride, decay.x, decay.y);
        },
        [&](int i, float2 decay) {
          if (tiles.to_end) put_key(tiles.to_end, i, decay);
        },
        nothing);
    *reinterpret_cast<float2*>(tiles.decay + sub_chunk * K + position_of(channel)) = whole;
  }
}

/// Eight channels of a row, 16 bytes, to their positions; `group` counts pieces of 8.
__device__ inline void store_by_position(bf16* row, int group, const uint4& channels) {
  uint32_t* target = reinterpret_cast<uint32_t*>(row + group / 4 * 32 + group % 4 * 2);
  target[0] = channels.x;
  target[4] = channels.y;
  target[8] = channels.z;
  target[12] = channels.w;
}

__device__ inline uint4 load_piece(const bf16* pointer) {
  return *reinterpret_cast<const uint4*>(pointer);
}

/// Rows [rows, columns] by position, zeros from row `length` > 0 on; all threads, without waiting.
/// Four threads take 32 columns of a row.
__device__ inline void load_rows_by_position(bf16* tile, const bf16* source, int stride,
                                             int columns, int rows, int length) {
  const int group = threadIdx.x % 4;
  for (int row = threadIdx.x / 4; row < rows; row += blockDim.x / 4) {
    bf16* target = tile + row * row_stride(columns) + 2 * group;
    const bf16* piece = source + rows_apart(min(row, length - 1), stride) + 8 * group;
    for (int column = 0; column < columns; column += 32) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        copy_4_bytes(target + column + 8 * i, piece + column + 2 * i, row < length);
      }
    }
  }
}

/// The same in the channels' order, in four times fewer copies.
__device__ inline void load_rows_by_channel(bf16* tile, const bf16* source, int stride, int columns,
                                            int rows, int length) {
  const int group = threadIdx.x % 4;
  for (int row = threadIdx.x / 4; row < rows; row += blockDim.x / 4) {
    const bf16* piece = source + rows_apart(min(row, length - 1), stride);
    for (int column = 8 * group; column < columns; column += 32) {
      copy_16_bytes(tile + row * row_stride(columns) + column, piece + column, row < length);
    }
  }
}

/// Two bf16 times two others.
__device__ inline float2 product(uint32_t a, uint32_t b) {
  const float2 x = unpack(a), y = unpack(b);
  return {x.x * y.x, x.y * y.y};
}

__device__ inline uint4 multiply(const uint4& a, const uint4& b) {
  const auto times = [](uint32_t x, uint32_t y) {
    const float2 pair = product(x, y);
    return pack(pair.x, pair.y);
  };
  return {times(a.x, b.x), times(a.y, b.y), times(a.z, b.z), times(a.w, b.w)};
}

/// The 16 bytes of 32 channels that a thread holds of one row of two neighbouring fragments; `half`
/// is 0 for row lane/4 and 1 for row lane/4 + 8.
__device__ inline uint4 row_piece(const FragmentC& low, const FragmentC& high, int half) {
  const int i = 2 * half;
  return {pack(low.x[i], low.x[i + 1]), pack(low.x[i + 4], low.x[i + 5]),
          pack(high.x[i], high.x[i + 1]), pack(high.x[i + 4], high.x[i + 5])};
}

/// Two neighbouring fragments ⊙= a thread's 16 bytes of their upper and lower rows.
__device__ inline void scale_pair(FragmentC& low, FragmentC& high, const uint4& upper,
                                  const uint4& lower) {
  const auto scale_two = [](float* x, uint32_t factor) {
    const float2 pair = unpack(factor);
    x[0] *= pair.x;
    x[1] *= pair.y;
  };
  scale_two(low.x, upper.x);
  scale_two(low.x + 4, upper.y);
  scale_two(high.x, upper.z);
  scale_two(high.x + 4, upper.w);
  scale_two(low.x + 2, lower.x);
  scale_two(low.x + 6, lower.y);
  scale_two(high.x + 2, lower.z);
  scale_two(high.x + 6, lower.w);
}

/// Writes 16 rows of 32 channels that start at `target`; rows from `valid` on are left out.
__device__ inline void store_32_channels(bf16* target, int64_t stride, const FragmentC& low,
                                         const FragmentC& high, int valid, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    if (row < valid) {
      *reinterpret_cast<uint4*>(target + row * stride + lane % 4 * 8) = row_piece(low, high, half);
    }
  }
}

/// Calls `launch` with an integral constant for the sizes that have kernels: those of heads,
/// and 32.
template <typename Launch>
cudaError_t with_key_dim(int key_dim, Launch launch) {
  if (key_dim == 32) return launch(std::integral_constant<int, 32>());
  return with_head_dim(key_dim, launch);
}

/// The same for the columns of a state: values of 32 to 128, and a normalizer's 32 more.
template <typename Launch>
cudaError_t with_value_dim(int value_dim, Launch launch) {
  if (value_dim == 160) return launch(std::integral_constant<int, 160>());
  return with_key_dim(value_dim, launch);
}

/// Launches a kernel over GatedScanParams, a block for each chunk and state head, with `bytes` of
/// shared memory.
template <typename Kernel>
cudaError_t launch_over_chunks(Kernel kernel, int threads, int bytes, const GatedScanParams& params,
                               cudaStream_t stream) {
  const dim3 grid(params.chunk_count, params.state_heads);
  return launch_with_shared_memory(kernel, grid, threads, bytes, params, stream);
}

}  // namespace tigon::cuda
