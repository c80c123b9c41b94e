#include "model/batch.h"

#include <ATen/ATen.h>

#include <numeric>
#include <utility>

#include "core/error.h"
#include "model/state.h"
#include "model/upload.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {
namespace {

/// Positions count on from starts[i] in segment i.
Batch assemble(const std::vector<int64_t>& tokens, std::vector<int64_t> lengths,
               const std::vector<int64_t>& starts, at::Device device) {
  std::vector<int64_t> positions(tokens.size());
  auto next = positions.begin();
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::iota(next, next + lengths[i], starts[i]);
    next += lengths[i];
  }
  Batch batch;
  batch.host_tokens = upload(tokens, at::kCPU);
  batch.tokens = batch.host_tokens.to(device, at::kLong, /*non_blocking=*/true);
  batch.positions = upload(positions, device);
  batch.segments = Segments::from_lengths(std::move(lengths), device);
  return batch;
}

void check_slots(const std::vector<int64_t>& slots, size_t sequences, int64_t slot_count) {
  if (slots.size() != sequences) {
    fail("batch: {} state slots for {} sequences", slots.size(), sequences);
  }
  std::vector<bool> is_taken(slot_count, false);
  for (const int64_t slot : slots) {
    if (slot < 0 || slot >= slot_count) {
      fail("batch: state slot {} does not exist, the state has {}", slot, slot_count);
    }
    if (is_taken[slot]) fail("batch: state slot {} is given to two sequences", slot);
    is_taken[slot] = true;
  }
}

}  // namespace

Batch make_batch(const std::vector<std::vector<int64_t>>& sequences, at::Device device,
                 const ModelState* state, std::vector<int64_t> slots) {
  std::vector<int64_t> tokens, lengths;
  for (const std::vector<int64_t>& sequence : sequences) {
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    lengths.push_back(static_cast<int64_t>(sequence.size()));
  }
  if (state == nullptr) {
    if (!slots.empty()) fail("batch: {} state slots are given without a state", slots.size());
    return assemble(tokens, std::move(lengths), std::vector<int64_t>(sequences.size(), 0), device);
  }
  if (slots.empty()) {
    slots.resize(sequences.size());
    std::iota(slots.begin(), slots.end(), 0);
  }
  check_slots(slots, sequences.size(), state->slots());
  std::vector<int64_t> past_lengths;
  for (const int64_t slot : slots) past_lengths.push_back(state->length(slot));
  Batch batch = assemble(tokens, std::move(lengths), past_lengths, device);
  batch.slots = std::move(slots);
  batch.past_lengths = std::move(past_lengths);
  return batch;
}

Batch make_batch(std::vector<int64_t> tokens, std::vector<int64_t> segment_lengths,
                 at::Device device) {
  const int64_t total = std::accumulate(segment_lengths.begin(), segment_lengths.end(), int64_t{0});
  if (total != static_cast<int64_t>(tokens.size())) {
    fail("batch: segment lengths add up to {}, but there are {} tokens", total, tokens.size());
  }
  const std::vector<int64_t> starts(segment_lengths.size(), 0);
  return assemble(tokens, std::move(segment_lengths), starts, device);
}

at::Tensor next_token_targets(const Batch& batch, const std::vector<uint8_t>& counted) {
  if (!counted.empty() && static_cast<int64_t>(counted.size()) != batch.segments.total) {
    fail("batch: {} flags of counted tokens for {} tokens", counted.size(), batch.segments.total);
  }
  if (batch.segments.total == 0) return at::empty_like(batch.tokens);
  std::vector<int64_t> ignored;  // positions without a target
  int64_t end = 0;
  for (const int64_t length : batch.segments.lengths) {
    end += length;
    if (length > 0) ignored.push_back(end - 1);
  }
  for (size_t i = 1; i < counted.size(); ++i) {
    if (counted[i] == 0) ignored.push_back(static_cast<int64_t>(i) - 1);
  }
  at::Tensor targets = batch.tokens.roll(-1);
  return targets.index_fill_(0, upload(ignored, batch.tokens.device()), kIgnoredTarget);
}

}  // namespace tigon
