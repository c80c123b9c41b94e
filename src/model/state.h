// A model's memory of its sequences: one MixerState a layer and the length of each slot.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "model/mixer.h"

namespace tigon {

class ModelState {
 public:
  /// `dtype` is that of the activations (recurrent matrices have their mixer's own, float32 unless
  /// its recipe says otherwise).
  ModelState(const MixerStack& stack, int64_t slots, at::ScalarType dtype, at::Device device);

  int64_t slots() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  /// Tokens a slot has seen.
  int64_t length(int64_t slot) const { return lengths_.at(slot); }
  MixerState& layer(int64_t index) { return *layers_.at(index); }
  /// Throws Error unless the batch was made for this state as it is now.
  void check(const Batch& batch) const;
  /// Called by forward after all layers.
  void advance(const Batch& batch);
  /// Forgets a slot's sequence.
  void reset(int64_t slot);
  /// Makes room for sequences of this many tokens, so that caches need not grow.
  void reserve(int64_t tokens);
  /// Bytes of all live tensors.
  int64_t bytes() const;

 private:
  std::vector<std::unique_ptr<MixerState>> layers_;
  std::vector<int64_t> lengths_;
};

/// Bytes one sequence of this many tokens keeps, counted from the tensors of a state made on the
/// meta device.
int64_t state_bytes_per_sequence(const MixerStack& stack, int64_t tokens, at::ScalarType dtype);

}  // namespace tigon
