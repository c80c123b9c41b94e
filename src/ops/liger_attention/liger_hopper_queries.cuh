// Brings the queries that see a chunk's keys into shared memory, head by head, while the warpgroups
// that sum work on those that came before.
#pragma once
#include "ops/liger_attention/liger_hopper_keys.cuh"
#include "ops/thread_groups.cuh"

namespace tigon::cuda {

// Barriers between the warps that bring queries and those that sum, four slots each; among the
// former, and among the latter.
inline constexpr int kIsFull = 1, kIsFree = 5, kBringers = 9, kSummers = 10;

/// The slot of number `index` among those of a head: 0 and 1 the chunk's, 2 and 3 the next one's.
__device__ inline int slot_of(const KeyBlock& block, int index) {
  return index < block.own_slots() ? index : 2 + index - block.own_slots();
}

/// What a thread that brings queries does from the first head to the last.
template <int D>
struct QueryLoader {
  using Part = RowPart<D>;
  static constexpr int kEach = Part::kUnits / 2 / (kGroupThreads / 32);  // rows of a slot, in part

  HopperKeyShared<D>& shared;
  const KeyBlock& block;
  const LigerParams& p;
  const int thread, warp;  // of those that bring
  const int64_t token;
  Part parts[kEach];  // on their way from device memory
  float log2_sum_exp, row_dot;
  Part gates[2][kEach];

  __device__ QueryLoader(HopperKeyShared<D>& shared, const KeyBlock& block, const LigerParams& p)
      : shared(shared),
        block(block),
        p(p),
        thread(threadIdx.x % kGroupThreads),
        warp(thread / 32),
        token(block.chunk.first_token) {}

  /// Among a slot's.
  __device__ int row(int i) const { return Part::row(i * (kGroupThreads / 32) + warp, block.lane); }

  /// Gates of the rows that this thread will map, from shared memory.
  __device__ void load_gates() {
#pragma unroll
    for (int i = 0; i < 2 * kEach; ++i) {
#pragma unroll
      for (int piece = 0; piece < Part::kPieces; ++piece) {
        const int at = panel_at<D>(i / kEach * kSlotQueries + row(i % kEach),
                                   Part::channel(piece, block.lane));
        gates[i / kEach][i % kEach].x[piece] = *reinterpret_cast<const uint4*>(shared.gates() + at);
      }
    }
  }

  /// Rows of the slot that are there.
  __device__ int length(int slot) const {
    return block.queries() - slot * kSlotQueries;
  }

  /// Asks for a slot of a head's queries.
  __device__ void ask(int slot, int head) {
    const int first = slot * kSlotQueries, rows = length(slot);
    const bf16* source = head_of(p.q, token + first, head, D);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      parts[i].load(source + row(i) * p.q.token_stride, row(i) < rows, block.lane);
    }
    const bool is_there = thread < min(rows, kSlotQueries);
    const int64_t at = (token + first + thread) * p.heads + head;
    log2_sum_exp = is_there ? p.log2_sum_exp[at] : INFINITY;  // P = 0
    row_dot = is_there ? p.row_dots[at] : 0.0f;
  }

  /// Upstream gradients on their way; sums of the rows at hand.
  __device__ void bring(int slot, int head) {
    const int first = slot * kSlotQueries;
    bf16* target = slot < 2 ? shared.own_out_gradients : shared.next_out_gradients;
    copy_panel_rows<D, kGroupThreads>(target, head_of(p.out_gradient, token + first, head, D),
                                      p.out_gradient.token_stride, first % kChunkTokens,
                                      kSlotQueries, length(slot), thread);
    if (thread < kSlotQueries) {
      shared.log2_sum_exp[first + thread] = log2_sum_exp - log2_fast(1 - p.mix);
      shared.row_dots[first + thread] = row_dot;
    }
  }

  __device__ void put(int slot) {
    const int first = slot * kSlotQueries;
    bf16* target = slot < 2 ? shared.own_queries : shared.next_queries;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      rotated_by<D>(parts[i], shared.angles, first + row(i), block.lane)
          .store(target, first % kChunkTokens + row(i), block.lane);
    }
    if (slot >= 2) return;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const RowExponentials<D> exponentials(parts[i]);
      gates[0][i].keep_packed();
      gates[1][i].keep_packed();
      Part gate = gates[0][i];
      if (slot == 1) gate = gates[1][i];
      exponentials.gated(gate, p.mix * exponentials.softmax.inverse_sum)
          .store(shared.mapped_queries, first + row(i), block.lane);
    }
  }

  /// After the heads: Σ y of the queries over the heads of the group, and k itself.
  __device__ void bring_sums() {
    constexpr int kPieces = D / 8, kStep = kGroupThreads / kPieces;
    copy_panel_rows<D, kGroupThreads>(shared.last_keys(), head_of(p.k, token, block.kv_head, D),
                                      p.k.token_stride, 0, kChunkTokens, block.chunk.length,
                                      thread);
    const HeadRows query_y{p.query_gate_gradients, static_cast<int64_t>(p.heads) * D};
    const int column = thread % kPieces * 8;
#pragma unroll 4
    for (int row = thread / kPieces; row < kChunkTokens; row += kStep) {
      const bool is_there = row < block.chunk.length;
      const bf16* y =
          head_of(query_y, token + (is_there ? row : 0), block.kv_head * block.group, D) + column;
      float2 sums[4] = {};
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
      const float factor = is_there ? 1.0f : 0.0f;
      float4* target = reinterpret_cast<float4*>(shared.query_sums() + sum_at<D>(row, column));
      target[0] = {sums[0].x * factor, sums[0].y * factor, sums[1].x * factor, sums[1].y * factor};
      target[1] = {sums[2].x * factor, sums[2].y * factor, sums[3].x * factor, sums[3].y * factor};
    }
    wait_for_copies();
  }

  /// Has y of the queries brought to the L2 cache.
  __device__ void prefetch_sums() const {
    const HeadRows query_y{p.query_gate_gradients, static_cast<int64_t>(p.heads) * D};
    const int lines = block.group * D / 64;  // of 128 bytes, a token
    for (int item = thread; item < block.chunk.length * lines; item += kGroupThreads) {
      prefetch_line(head_of(query_y, token + item / lines, block.kv_head * block.group, D) +
                    item % lines * 64);
    }
  }

  /// Once the keys are mapped and the first slot has been asked for.
  __device__ void run() {
    const int first_head = block.kv_head * block.group;
    const int slots = block.slots(), own_slots = block.own_slots();
    load_gates();
    wait_at(kBringers, kGroupThreads);
#pragma unroll 1
    for (int turn = 0; turn < slots * block.group; ++turn) {
      const int slot = slot_of(block, turn % slots), head = first_head + turn / slots;
      // The first own queries take the place of keys that nobody reads any more.
      const bool is_free = turn < own_slots;
      if (!is_free) {
        wait_at(kIsFree + slot, kKeyThreads<D>);
        bring(slot, head);
      }
      put(slot);
      if (is_free) {
        wait_at(kIsFree + slot, kKeyThreads<D>);
        bring(slot, head);
      }
      if (turn + 1 < slots * block.group) {
        ask(slot_of(block, (turn + 1) % slots), first_head + (turn + 1) / slots);
      }
      wait_for_copies();
      publish_to_products();
      come_to(kIsFull + slot, kKeyThreads<D>);
      if (turn % slots != 0) continue;
      if (turn == 0) prefetch_sums();
      if (turn / slots + 1 < block.group) {
        prefetch_queries<D>(block, p, head + 1, thread, kGroupThreads);
      }
    }
    for (int slot = 0; slot < own_slots; ++slot) wait_at(kIsFree + slot, kKeyThreads<D>);
    bring_sums();
  }
};

}  // namespace tigon::cuda
