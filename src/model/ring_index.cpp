#include "model/ring_index.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "model/upload.h"

namespace tigon {
namespace {

RingWrites make_writes(const Batch& batch, const RingLayout& layout) {
  std::vector<int64_t> source, target;
  int64_t offset = 0;
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    const int64_t past = batch.past_lengths[i], length = batch.segments.lengths[i];
    const int64_t first_row = batch.slots[i] * layout.rows();
    const int64_t first_kept = std::max(past + length - layout.period, layout.sinks);
    for (int64_t j = 0; j < length; ++j) {
      if (past + j >= layout.sinks && past + j < first_kept) continue;
      source.push_back(offset + j);
      target.push_back(first_row + layout.row_of(past + j));
    }
    offset += length;
  }
  const at::Device device = batch.tokens.device();
  return {upload(source, device), upload(target, device)};
}

RingReads make_reads(const Batch& batch, const RingLayout& layout) {
  std::vector<int64_t> prefix_rows, order, positions, key_counts;
  int64_t offset = 0;
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    const int64_t past = batch.past_lengths[i], length = batch.segments.lengths[i];
    const int64_t keys_before = static_cast<int64_t>(order.size());
    const auto read_remembered = [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        order.push_back(batch.segments.total + static_cast<int64_t>(prefix_rows.size()));
        positions.push_back(t);
        prefix_rows.push_back(batch.slots[i] * layout.rows() + layout.row_of(t));
      }
    };
    if (length > 0) {
      read_remembered(0, std::min(past, layout.sinks));
      read_remembered(std::max(past - layout.period, layout.sinks), past);
    }
    for (int64_t j = 0; j < length; ++j) {
      order.push_back(offset + j);
      positions.push_back(past + j);
    }
    offset += length;
    key_counts.push_back(static_cast<int64_t>(order.size()) - keys_before);
  }
  const at::Device device = batch.tokens.device();
  RingReads reads;
  if (!prefix_rows.empty()) reads.prefix_rows = upload(prefix_rows, device);
  reads.order = upload(order, device);
  reads.key_positions = upload(positions, device);
  reads.key_segments = Segments::from_lengths(std::move(key_counts), device);
  return reads;
}

}  // namespace

void RingWrites::put(const at::Tensor& rows, const at::Tensor& x) const {
  const bool is_all = source.size(0) == x.size(0);
  const at::Tensor kept = is_all ? x : x.index_select(0, source);
  rows.flatten(0, 1).index_copy_(0, target, kept.to(rows.scalar_type()));
}

at::Tensor RingReads::get(const at::Tensor& rows, const at::Tensor& x) const {
  if (!prefix_rows.defined()) return x;
  const at::Tensor prefix = rows.flatten(0, 1).index_select(0, prefix_rows);
  return at::cat({x, prefix.to(x.scalar_type())}).index_select(0, order);
}

bool RingIndexes::is_single_step() const {
  return batch_.segments.are_equal && batch_.segments.longest == 1;
}

const at::Tensor& RingIndexes::slots() {
  if (!slots_.defined()) slots_ = upload(batch_.slots, batch_.tokens.device());
  return slots_;
}

const at::Tensor& RingIndexes::last_positions() {
  if (last_positions_.defined()) return last_positions_;
  if (is_single_step()) return last_positions_ = batch_.positions;
  std::vector<int64_t> last;
  for (size_t i = 0; i < batch_.past_lengths.size(); ++i) {
    last.push_back(batch_.past_lengths[i] + batch_.segments.lengths[i] - 1);
  }
  return last_positions_ = upload(last, batch_.tokens.device());
}

bool RingIndexes::holds_all_slots(int64_t slot_count) const {
  if (static_cast<int64_t>(batch_.slots.size()) != slot_count) return false;
  for (int64_t i = 0; i < slot_count; ++i) {
    if (batch_.slots[i] != i) return false;
  }
  return true;
}

const RingWrites& RingIndexes::writes(const RingLayout& layout) {
  const auto found = writes_.find(layout);
  if (found != writes_.end()) return found->second;
  return writes_.emplace(layout, make_writes(batch_, layout)).first->second;
}

const RingReads& RingIndexes::reads(const RingLayout& layout) {
  const auto found = reads_.find(layout);
  if (found != reads_.end()) return found->second;
  return reads_.emplace(layout, make_reads(batch_, layout)).first->second;
}

const RingStep& RingIndexes::step(const RingLayout& layout, int64_t slot_count) {
  const auto found = steps_.find(layout);
  if (found != steps_.end()) return found->second;
  const int64_t longest =
      *std::max_element(batch_.past_lengths.begin(), batch_.past_lengths.end()) + 1;
  RingStep step;
  step.rows = std::min(longest, layout.rows());
  if (!holds_all_slots(slot_count)) step.slots = slots();
  // Row r ≥ sinks holds the last position t ≤ last with t ≡ r (mod period), if that is no sink.
  const at::Tensor last = batch_.positions.unsqueeze(1);  // [S, 1]
  const at::Tensor rows = at::arange(step.rows, last.options());
  const at::Tensor in_ring = last - (last - rows).remainder(layout.period);
  const at::Tensor is_sink = rows < layout.sinks;
  step.positions = at::where(is_sink, rows, in_ring).flatten();
  step.visible =
      at::where(is_sink, rows <= last, in_ring >= layout.sinks).view({-1, 1, 1, step.rows});
  return steps_.emplace(layout, std::move(step)).first->second;
}

}  // namespace tigon
