#include "model/state.h"

#include "core/error.h"

namespace tigon {

ModelState::ModelState(const MixerStack& stack, int64_t slots, at::ScalarType dtype,
                       at::Device device)
    : lengths_(slots, 0) {
  for (const auto& mixer : stack) layers_.push_back(mixer->make_state(slots, dtype, device));
}

void ModelState::check(const Batch& batch) const {
  if (static_cast<int64_t>(batch.slots.size()) != batch.segments.count() ||
      batch.past_lengths.size() != batch.slots.size()) {
    fail("state: the batch has {} segments and {} state slots; it was made without a state",
         batch.segments.count(), batch.slots.size());
  }
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    if (batch.slots[i] < 0 || batch.slots[i] >= slots()) {
      fail("state: slot {} does not exist, there are {}", batch.slots[i], slots());
    }
    if (batch.past_lengths[i] != length(batch.slots[i])) {
      fail("state: the batch continues slot {} at token {}, but the slot has seen {}",
           batch.slots[i], batch.past_lengths[i], length(batch.slots[i]));
    }
  }
}

void ModelState::advance(const Batch& batch) {
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    lengths_.at(batch.slots[i]) += batch.segments.lengths[i];
  }
}

void ModelState::reset(int64_t slot) {
  lengths_.at(slot) = 0;
  for (const auto& layer : layers_) layer->reset(slot);
}

void ModelState::reserve(int64_t tokens) {
  for (const auto& layer : layers_) layer->reserve(tokens);
}

int64_t ModelState::bytes() const {
  int64_t sum = 0;
  for (const auto& layer : layers_) sum += layer->bytes();
  return sum;
}

int64_t state_bytes_per_sequence(const MixerStack& stack, int64_t tokens, at::ScalarType dtype) {
  ModelState state(stack, 1, dtype, at::kMeta);
  state.reserve(tokens);
  return state.bytes();
}

}  // namespace tigon
