// Keys before RoPE and values of each slot's last tokens (or of all of them), and attention over
// them. Keys are rotated when they are read.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/mixer.h"
#include "ops/window_attention/window_attention.h"

namespace tigon {

class KeyValueRing : public MixerState {
 public:
  /// window_keys > 0: the last window_keys keys and the first `sinks`. 0: every key; the rows grow
  /// by doubling.
  KeyValueRing(const HeadShape& shape, int64_t window_keys, int64_t sinks, int64_t slots,
               at::ScalarType dtype, at::Device device);

  std::vector<at::Tensor> tensors() const override { return {keys_, values_}; }
  const at::Tensor& keys() const { return keys_; }
  const at::Tensor& values() const { return values_; }
  void reset(int64_t slot) override;
  void reserve(int64_t tokens) override;

  /// The keys and values that a batch's queries see.
  struct Seen {
    at::Tensor k, v;       // [M, Hkv, D], k before RoPE
    at::Tensor positions;  // [M] int64
    Segments segments;
  };
  /// What is remembered of each slot followed by the batch's own keys; then remembers these.
  Seen read_and_remember(const MixerInput& input);

  /// For a batch of one token a segment: remembers its keys and attends, all slots at once.
  /// → [S, H, D].
  at::Tensor step(const MixerInput& input);

 private:
  void make_room(const Batch& batch);
  void grow_to(int64_t rows);
  void remember(const MixerInput& input);

  RingLayout layout_;
  bool keeps_everything_;
  at::Tensor keys_, values_;  // [slots, rows, Hkv, D]
};

/// Softmax attention over the keys a batch and its ring (or null) hold: the whole mixer of a
/// teacher and of a window student. → [N, H, D].
at::Tensor attend(const MixerInput& input, const WindowAttentionOptions& options,
                  KeyValueRing* ring);

}  // namespace tigon
