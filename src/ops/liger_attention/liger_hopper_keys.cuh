// A chunk's keys and what their gradients need of them, for Hopper's tensor core: shared memory of
// the kernel whose warps own keys, and how it begins.
//
// A query meets keys of its own and earlier sub-chunks through the middle of its sub-chunk
// (liger_chunk.cuh): φ(q) ⊙ exp(c − m) by keys ⊙ the decay up to that middle. So there are as many
// versions of the keys as sub-chunks, and one of the queries.
#pragma once
#include "ops/liger_attention/liger_row_parts.cuh"

namespace tigon::cuda {

/// Warpgroups that sum, each 64 columns of all keys, and the one that brings queries.
template <int D>
inline constexpr int kSumGroups = D / 64;
inline constexpr int kGroupThreads = 128;
template <int D>
inline constexpr int kSumThreads = kSumGroups<D>* kGroupThreads;
template <int D>
inline constexpr int kKeyThreads = kSumThreads<D> + kGroupThreads;

/// Tiles are panels (ops/warpgroup_products.cuh). Queries come and go: "own" are those of the
/// chunk, "next" those of the chunk after it.
template <int D>
struct HopperKeyShared {
  static constexpr int kTileElements = kChunkTokens * D;
  using Tile = bf16[kTileElements];

  alignas(1024) Tile rotated_keys;
  Tile values;
  Tile mapped_keys[kSubChunks];  // φ(k) ⊙ decay up to the middle of a sub-chunk; later keys are 0
  Tile own_queries;              // rotated
  Tile own_out_gradients;
  Tile mapped_queries;  // mix · φ(q) ⊙ exp(c − m)
  Tile next_queries;
  Tile next_out_gradients;
  __half angles[2 * kTileElements];
  float decay[2 * kSubChunks * D];       // exp(T), then exp(m)
  float log2_sum_exp[2 * kChunkTokens];  // less log2(1 − mix); own, then next
  float row_dots[2 * kChunkTokens];
  float y_sums[kSumGroups<D> * kChunkTokens];
  RowSoftmax softmax[kChunkTokens];  // of the keys

  // Before the heads: the keys; keys up to their sub-chunk's end, then the chunk's; exp(c − m); the
  // gradient of the state after the chunk [D, D].
  __device__ bf16* keys() { return own_queries; }
  __device__ bf16* keys_to_end() { return own_out_gradients; }
  __device__ bf16* gates() { return mapped_queries; }
  __device__ bf16* state_gradient() { return next_queries; }
  // After the heads, [64, D] float32 each (sum_at): Σ y of the queries over the heads; RoPE of the
  // window's part of dk; y. And the keys once more.
  __device__ float* query_sums() { return reinterpret_cast<float*>(own_queries); }
  __device__ float* window_sums() { return reinterpret_cast<float*>(next_queries); }
  __device__ float* key_sums() { return reinterpret_cast<float*>(mapped_keys); }
  __device__ bf16* last_keys() { return mapped_queries; }
  /// Sums over eight rows.
  __device__ float* gate_totals() { return decay; }
};

/// Element of a [64, D] float32 tile: rows of four meet different banks.
template <int D>
__device__ int sum_at(int row, int column) {
  return row * D + (column ^ (row & 3) << 3);
}

/// Queries come in slots of so many: two for the chunk, two for the next one.
inline constexpr int kSlotQueries = 32;

/// What a block works on.
struct KeyBlock {
  Chunk chunk;
  int next_length;  // queries in the chunk after this one, 0 at a segment's end
  int kv_head, group, warp, lane;

  __device__ KeyBlock(const LigerParams& p)
      : chunk(p.chunks[blockIdx.x]),
        kv_head(blockIdx.y),
        group(p.heads / p.kv_heads),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32) {
    const bool is_last = static_cast<int>(blockIdx.x) + 1 == p.chunk_count;
    const Chunk next = p.chunks[blockIdx.x + (is_last ? 0 : 1)];
    next_length = is_last || next.is_first ? 0 : next.length;
  }
  __device__ int own_slots() const { return (chunk.length + kSlotQueries - 1) / kSlotQueries; }
  /// Of both chunks, for each head.
  __device__ int slots() const {
    return own_slots() + (next_length + kSlotQueries - 1) / kSlotQueries;
  }
  /// Queries of both chunks. A chunk with a successor is full, so that its rows run on into it.
  __device__ int queries() const { return chunk.length + next_length; }
};

/// Two neighbouring channels of one sub-chunk: its gates, and its keys as its own queries see them
/// and up to its end.
template <int D>
__device__ void map_sub_chunk(HopperKeyShared<D>& shared, int sub_chunk, int channel, int length,
                              float inverse_normalizer) {
  const int first = sub_chunk * kTile;
  float2 gate[kTile], phi[kTile];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const float2 k = unpack(load_pair(shared.keys() + panel_at<D>(first + i, channel)));
    const RowSoftmax& softmax = shared.softmax[first + i];
    // Gate 1 and φ = 0 for rows that are not there, without a branch, which would make rows wait
    // for each other.
    const float is_there = first + i < length ? 1.0f : 0.0f;
    gate[i].x = fmaxf(exp2_fast(log2_gate(k.x, inverse_normalizer)), 1 - is_there);
    gate[i].y = fmaxf(exp2_fast(log2_gate(k.y, inverse_normalizer)), 1 - is_there);
    phi[i] = {softmax.value(k.x) * is_there, softmax.value(k.y) * is_there};
  }
  const auto put = [&](bf16* tile, int i, float2 pair) {
    store_pair(tile + panel_at<D>(first + i, channel), pair.x, pair.y);
  };
  const auto put_key = [&](bf16* tile, int i, float2 decay) {
    put(tile, i, float2{phi[i].x * decay.x, phi[i].y * decay.y});
  };
  bf16* own = shared.mapped_keys[sub_chunk];
  float2 start_to_middle;
  const float2 whole = visit_decays(
      gate, [](int, float2) {},
      [&](int i, float2 decay) { put_key(shared.keys_to_end(), i, decay); },
      [&](int i, float2 to_middle, float2 from_middle) {
        put_key(own, i, to_middle);
        put(shared.gates(), i, from_middle);
        if (i == 0) start_to_middle = to_middle;
      });
  start_to_middle.x *= fmaxf(gate[0].x, kLowestGate);
  start_to_middle.y *= fmaxf(gate[0].y, kLowestGate);
  *reinterpret_cast<float2*>(shared.decay + sub_chunk * D + channel) = whole;
  *reinterpret_cast<float2*>(shared.decay + (kSubChunks + sub_chunk) * D + channel) =
      start_to_middle;
}

/// Two neighbouring channels of one sub-chunk, once all have their decays: its keys as later
/// queries see them, 0 for earlier ones, and up to the chunk's end.
template <int D>
__device__ void map_distant(HopperKeyShared<D>& shared, int sub_chunk, int channel) {
  const int first = sub_chunk * kTile;
  float2 keys[kTile];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    keys[i] = unpack(load_pair(shared.keys_to_end() + panel_at<D>(first + i, channel)));
  }
  const auto put = [&](bf16* tile, float2 factor) {
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      store_pair(tile + panel_at<D>(first + i, channel), keys[i].x * factor.x,
                 keys[i].y * factor.y);
    }
  };
  float2 decay = {1, 1};
#pragma unroll 1
  for (int other = 0; other < kSubChunks; ++other) {
    if (other == sub_chunk) continue;
    if (other < sub_chunk) {
      put(shared.mapped_keys[other], float2{0, 0});
      continue;
    }
    const int at = other * D + channel;
    const float2 to_middle = *reinterpret_cast<const float2*>(shared.decay + kSubChunks * D + at);
    put(shared.mapped_keys[other], float2{decay.x * to_middle.x, decay.y * to_middle.y});
    const float2 whole = *reinterpret_cast<const float2*>(shared.decay + at);
    decay = {decay.x * whole.x, decay.y * whole.y};
  }
  put(shared.keys_to_end(), decay);
}

/// Has rows of a head's queries and upstream gradients, of both chunks, brought to the L2 cache.
template <int D>
__device__ void prefetch_queries(const KeyBlock& block, const LigerParams& p, int head, int thread,
                                 int threads) {
  constexpr int kLines = D / 64;  // of 128 bytes
  for (int item = thread; item < block.queries() * kLines; item += threads) {
    const int64_t token = static_cast<int64_t>(block.chunk.first_token) + item / kLines;
    const int column = item % kLines * 64;
    prefetch_line(head_of(p.q, token, head, D) + column);
    prefetch_line(head_of(p.out_gradient, token, head, D) + column);
  }
}

/// The chunk's keys, values, gates and angles, and the gradient of the state after it. All threads;
/// ends with a barrier.
template <int D>
__device__ void load_keys(HopperKeyShared<D>& shared, const KeyBlock& block, const LigerParams& p) {
  constexpr int kThreads = kKeyThreads<D>;
  using Part = RowPart<D>;
  const int length = block.chunk.length;
  const int64_t token = block.chunk.first_token;
  const float* rotations = p.rotations + token * D;
  const bf16* keys = head_of(p.k, token, block.kv_head, D);
  copy_panel_rows<D, kThreads>(shared.values, head_of(p.v, token, block.kv_head, D),
                               p.v.token_stride, 0, kChunkTokens, length, threadIdx.x);
  const int64_t state = blockIdx.x * static_cast<int64_t>(p.kv_heads) + block.kv_head;
  copy_panel_rows<D, kThreads>(shared.state_gradient(),
                               static_cast<const bf16*>(p.state_gradients) + state * D * D, D, 0, D,
                               D, threadIdx.x);
  for (int unit = block.warp; unit < Part::kUnits; unit += kThreads / 32) {
    const int row = Part::row(unit, block.lane);
    const bool is_there = row < length;
    Part part;
    part.load(keys + row * p.k.token_stride, is_there, block.lane);
    const float4* angles =
        reinterpret_cast<const float4*>(rotations + (is_there ? row : 0) * static_cast<int64_t>(D) +
                                        2 * Part::channel(0, block.lane));
    float4 cos_sin[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) cos_sin[j] = angles[j];
    part.store(shared.keys(), row, block.lane);
    part.rotated([&](int j) { return cos_sin[j]; }).store(shared.rotated_keys, row, block.lane);
    const RowExponentials<D> exponentials(part);
    if (block.lane < Part::kRows) shared.softmax[row] = exponentials.softmax;
  }
  load_angles<D, kThreads>(shared.angles, rotations, 2 * kChunkTokens, block.queries());
  prefetch_queries<D>(block, p, block.kv_head * block.group, threadIdx.x, kThreads);
  wait_for_copies();
  __syncthreads();
  for (int item = threadIdx.x; item < kSubChunks * (D / 2); item += kThreads) {
    map_sub_chunk<D>(shared, item / (D / 2), item % (D / 2) * 2, length, p.inverse_normalizer);
  }
  publish_to_products();
  __syncthreads();
}

}  // namespace tigon::cuda
