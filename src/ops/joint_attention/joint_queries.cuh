// A chunk of queries and the keys they see: what forward and backward share where warps own
// queries.
#pragma once
#include <cuda_fp16.h>

#include "ops/joint_attention/joint_maps.cuh"

namespace tigon::cuda {

/// Of a block: four for each of two query heads at work at once. Where a group has one head, half
/// of them only load.
inline constexpr int kQueryWarps = 2 * kChunkTiles;
inline constexpr int kQueryThreads = 32 * kQueryWarps;
inline constexpr int kHeadsAtOnce = kQueryWarps / kChunkTiles;

/// Pairs of cos and sin from one token's to the next in shared memory, so that 8-byte accesses of
/// neighbouring tokens meet different banks (for D = 64 two at a time: more does not fit sm_89).
template <int D>
inline constexpr int kRotationStride = D / 2 + (D == 64 ? 4 : 8);

/// Keys and values of two chunks of the window are there at a time; the first is the chunk that
/// leaves the window, whose mapped keys are there too.
template <int D>
struct JointQueryShared {
  static constexpr int kTileElements = kChunkTokens * kRowStride<D>;

  alignas(16) bf16 mapped_keys[kChunkTokens * kRowStride<2 * D>];
  alignas(16) bf16 state[2 * D * kRowStride<D>];
  alignas(16) bf16 rotated_keys[2][kTileElements];
  alignas(16) bf16 values[2][kTileElements];
  alignas(16) float masses[2 * D];
  alignas(16) float log_decay[2 * D];
};

/// Of the forward pass: the queries' rotations, and rows of a head on their way to a warp.
template <int D>
struct FwdQueryShared : JointQueryShared<D> {
  // In half precision, an eighth of what rounding to bf16 loses: float32 does not fit.
  alignas(16) __half2 rotations[kChunkTokens * kRotationStride<D>];
  alignas(16) bf16 warp_rows[kQueryWarps][kTile * kRowStride<D>];
};

/// Of the backward pass, whose registers are scarcer: the gradients of a warp's far scores lie
/// here. What it leaves of the L1 cache holds rotations and rows of queries.
template <int D>
struct BwdQueryShared : JointQueryShared<D> {
  alignas(16) bf16 score_tiles[kQueryWarps][kTile * kRowStride<kChunkTokens>];
};

/// What a block works on.
struct QueryBlock {
  Chunk chunk;
  int kv_head, group;
  int place;          // of the chunk in its segment
  int window_chunks;  // of which 1 + min(place, W) exist
  bool has_far;
  // The warp's part: 16 rows of a head.
  int lane, tile;
  int valid;      // rows, ≤ 0 if none
  int64_t token;  // of the first row

  __device__ explicit QueryBlock(const JointParams& p)
      : chunk(p.chunks[blockIdx.x]),
        kv_head(blockIdx.y),
        group(p.heads / p.kv_heads),
        place(static_cast<int>(blockIdx.x) - p.chunk_offsets[chunk.segment]),
        window_chunks(p.window_chunks),
        has_far(place >= p.window_chunks),
        lane(threadIdx.x % 32),
        tile(threadIdx.x / 32 % kChunkTiles),
        valid(chunk.length - tile * kTile),
        token(static_cast<int64_t>(chunk.first_token) + tile * kTile) {}

  /// The first of the heads whose rows the warp has, and the one after `head`; −1 if there is none.
  __device__ int first_head() const {
    return head_number(static_cast<int>(threadIdx.x) / (32 * kChunkTiles));
  }
  __device__ int next_head(int head) const {
    return head_number(head - kv_head * group + kHeadsAtOnce);
  }
  __device__ int head_number(int g) const {
    return g < group && valid > 0 ? kv_head * group + g : -1;
  }
  /// Chunks that the window reaches, the block's own included.
  __device__ int key_chunks() const { return 1 + min(place, window_chunks); }
  /// Number `index` of them, from the oldest on: its distance from the block's own chunk.
  __device__ int distance(int index) const { return key_chunks() - 1 - index; }
  __device__ Window window(int index) const {
    if (distance(index) == 0) return Window::kOwn;
    return distance(index) == window_chunks ? Window::kOldest : Window::kMiddle;
  }
};

/// Starts the copies of a chunk of the window into its slot.
template <int D>
__device__ void load_window(JointQueryShared<D>& shared, const QueryBlock& block, int index,
                            const JointParams& p) {
  const int distance = block.distance(index);
  const int64_t first = static_cast<int64_t>(block.chunk.first_token) - distance * kChunkTokens;
  const int length = distance == 0 ? block.chunk.length : kChunkTokens;
  load_rows<D, kChunkTokens, kQueryThreads>(
      shared.values[index % 2], head_of(p.v, first, block.kv_head, D), p.v.token_stride, 0, length);
  load_rows<D, kChunkTokens, kQueryThreads>(shared.rotated_keys[index % 2],
                                            head_of(p.rotated_keys, first, block.kv_head, D),
                                            p.rotated_keys.token_stride, 0, length);
}

/// Starts the copies of what the far part needs beside the values of the window's first chunk.
template <int D>
__device__ void load_far(JointQueryShared<D>& shared, const QueryBlock& block,
                         const JointParams& p) {
  const int64_t first =
      static_cast<int64_t>(block.chunk.first_token) - block.window_chunks * kChunkTokens;
  load_rows<2 * D, kChunkTokens, kQueryThreads>(shared.mapped_keys,
                                                head_of(p.mapped_keys, first, block.kv_head, 2 * D),
                                                p.mapped_keys.token_stride, 0, kChunkTokens);
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) - block.window_chunks;
  const int64_t row = (chunk * p.kv_heads + block.kv_head) * 2 * D;
  load_rows<D, 2 * D, kQueryThreads>(shared.state, static_cast<const bf16*>(p.states) + row * D, D,
                                     0, 2 * D);
  for (int i = threadIdx.x; i < 2 * D; i += blockDim.x) {
    shared.masses[i] = p.masses[row + i];
    shared.log_decay[i] = p.log_decay[static_cast<int64_t>(block.kv_head) * 2 * D + i];
  }
}

/// The chunk's rotations; tokens behind its end get zeros. All threads; ends without a barrier.
template <int D>
__device__ void load_rotations(FwdQueryShared<D>& shared, const QueryBlock& block,
                               const JointParams& p) {
  constexpr int kPieces = D / 4;  // of two pairs
  const float* rotations = p.rotations + static_cast<int64_t>(block.chunk.first_token) * D;
#pragma unroll
  for (int first = 0; first < kChunkTokens * kPieces; first += kQueryThreads) {
    const int item = first + static_cast<int>(threadIdx.x);
    const int row = item / kPieces, column = item % kPieces * 2;
    float4 pairs = {0, 0, 0, 0};
    if (row < block.chunk.length) {
      pairs = *reinterpret_cast<const float4*>(rotations + row * D + 2 * column);
    }
    __half2* target = shared.rotations + row * kRotationStride<D> + column;
    target[0] = __floats2half2_rn(pairs.x, pairs.y);
    target[1] = __floats2half2_rn(pairs.z, pairs.w);
  }
}

/// cos, sin of two neighbouring channels, for pair `i` of fragment `group` of the warp's rows.
template <int D>
__device__ float4 rotation_of_query(const FwdQueryShared<D>& shared, const QueryBlock& block,
                                    int group, int i) {
  const int row = block.tile * kTile + fragment_row(i, block.lane);
  const int column = 16 * group + fragment_column(i, block.lane);
  const uint2 pairs =
      *reinterpret_cast<const uint2*>(shared.rotations + row * kRotationStride<D> + column);
  const float2 first = __half22float2(*reinterpret_cast<const __half2*>(&pairs.x));
  const float2 second = __half22float2(*reinterpret_cast<const __half2*>(&pairs.y));
  return {first.x, first.y, second.x, second.y};
}

/// Walks the query heads of the block's group, as many at once as it has sets of four warps, with
/// all its threads in step: begin(head or −1) before and end(head or −1) after visit(head or −1,
/// index) for each chunk of the window, whose keys are then there. All threads must call it.
template <int D, typename Begin, typename Visit, typename End>
__device__ void for_each_head(JointQueryShared<D>& shared, const QueryBlock& block,
                              const JointParams& p, Begin begin, Visit visit, End end) {
  const int count = block.key_chunks();
  const auto wait = [] {
    wait_for_copies();
    __syncthreads();
  };
  const auto load_first = [&] {
    for (int index = 0; index < min(count, 2); ++index) load_window<D>(shared, block, index, p);
  };
  if (block.has_far) load_far<D>(shared, block, p);
  load_first();
  wait();
  for (int first = 0; first < block.group; first += kHeadsAtOnce) {
    if (first > 0 && count > 2) {
      __syncthreads();
      load_first();
      wait();
    }
    const int head = block.head_number(first + static_cast<int>(threadIdx.x) / (32 * kChunkTiles));
    begin(head);
    for (int index = 0; index < count; ++index) {
      if (index >= 2) wait();
      visit(head, index);
      if (index + 2 < count) {
        __syncthreads();
        load_window<D>(shared, block, index + 2, p);
      }
    }
    end(head);
  }
}

/// Whether a tile of queries sees any key of a tile of a chunk of the window.
__device__ inline bool sees_tile(Window window, int key_tile, int query_tile) {
  if (window == Window::kMiddle) return true;
  return window == Window::kOwn ? key_tile <= query_tile : key_tile >= query_tile;
}

/// Scores that the window hides become −∞; rows are queries, columns keys.
__device__ inline void hide_unseen(FragmentC& scores, Window window, int key_tile, int query_tile,
                                   int lane) {
  if (window == Window::kMiddle || key_tile != query_tile) return;
  if (window == Window::kOwn) {
    keep_where(scores, -INFINITY, lane, [](int row, int column) { return column <= row; });
  } else {
    keep_where(scores, -INFINITY, lane, [](int row, int column) { return column > row; });
  }
}

}  // namespace tigon::cuda
