// Where the keys of a batch lie in the rings of a state: index tensors that are made once a forward
// pass and shared by all layers.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>

#include "model/batch.h"

namespace tigon {

/// Rows of one slot: the first `sinks` keys of the sequence, then a ring of `period` rows.
/// Position t lies in row t below `sinks`, else in row sinks + (t − sinks) mod period. A cache that
/// keeps everything is a ring too long to come round.
struct RingLayout {
  int64_t sinks = 0;
  int64_t period = 0;

  int64_t rows() const { return sinks + period; }
  int64_t row_of(int64_t position) const {
    return position < sinks ? position : sinks + (position - sinks) % period;
  }
  auto operator<=>(const RingLayout&) const = default;
};

/// Which tokens of a batch are remembered, and where: row `target[x]` of the rings laid end to end
/// takes token `source[x]`.
struct RingWrites {
  at::Tensor source;  // [X] int64
  at::Tensor target;  // [X] int64

  /// rows [slots, rows of a slot, …] takes the batch's own x [N, …], in its own dtype.
  void put(const at::Tensor& rows, const at::Tensor& x) const;
};

/// The keys each segment's queries may see, as window_attention takes them: what is still
/// remembered of the slot, oldest first, then the segment's own. The oldest of a full ring leaves
/// the window with the segment's first token, and enters the state of mixers that have one for it.
struct RingReads {
  at::Tensor prefix_rows;    // [C] int64, rows of the rings laid end to end; undefined if C = 0
  at::Tensor order;          // [M] int64 into the N new keys followed by the C remembered ones
  at::Tensor key_positions;  // [M] int64
  Segments key_segments;     // M keys

  /// From rows [slots, rows of a slot, …] and the batch's own x [N, …]: [M, …] in x's dtype.
  at::Tensor get(const at::Tensor& rows, const at::Tensor& x) const;
};

/// One token for every segment: all rows of a slot that may hold a key, in ring order.
struct RingStep {
  int64_t rows = 0;      // L, rows read of each slot
  at::Tensor slots;      // [S] int64; undefined if the batch holds every slot in order
  at::Tensor positions;  // [S·L] int64 of the key in each row once the new one is written
  at::Tensor visible;    // [S, 1, 1, L] bool: whether the row holds a key of this sequence
};

/// The indices of one batch that continues a state, for each ring layout that asks.
class RingIndexes {
 public:
  /// Keeps a reference to the batch.
  explicit RingIndexes(const Batch& batch) : batch_(batch) {}

  /// Whether every segment has exactly one token.
  bool is_single_step() const;
  const RingWrites& writes(const RingLayout& layout);
  const RingReads& reads(const RingLayout& layout);
  const RingStep& step(const RingLayout& layout, int64_t slot_count);
  /// The slots as a tensor [S] int64.
  const at::Tensor& slots();
  /// Position of each segment's last token, [S] int64; of the token before an empty segment.
  const at::Tensor& last_positions();
  /// Whether the batch holds every one of the state's slots in order.
  bool holds_all_slots(int64_t slot_count) const;

 private:
  const Batch& batch_;
  at::Tensor slots_, last_positions_;
  std::map<RingLayout, RingWrites> writes_;
  std::map<RingLayout, RingReads> reads_;
  std::map<RingLayout, RingStep> steps_;
};

}  // namespace tigon
