// The part of a decoder layer that differs between a teacher and its students: q, k, v in, one
// output per query head out.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/batch.h"
#include "model/ring_index.h"
#include "model/rotary.h"

namespace tigon {

/// What a mixer remembers of each sequence, in slots. Counted in bytes from its live tensors.
class MixerState {
 public:
  virtual ~MixerState() = default;
  /// Every live tensor.
  virtual std::vector<at::Tensor> tensors() const = 0;
  /// Forgets a slot's sequence.
  virtual void reset(int64_t slot) = 0;
  /// Makes room for sequences of this many tokens; nothing to do for a state of constant size.
  virtual void reserve(int64_t tokens) {}
  int64_t bytes() const;
};

struct MixerInput {
  at::Tensor hidden;  // [N, M] the attention input, after its norm
  at::Tensor q;       // [N, H, D] before RoPE
  at::Tensor k, v;    // [N, Hkv, D] before RoPE
  const Batch& batch;
  const Rotary& rotary;
  RingIndexes* rings;  // shared by the layers of a forward pass; null without a state
};

class Mixer {
 public:
  virtual ~Mixer() = default;
  /// → [N, H, D]. With a state (one that this mixer made), continues each segment from its slot and
  /// leaves the slot after the segment's last token.
  virtual at::Tensor forward(const MixerInput& input, MixerState* state) const = 0;
  virtual std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                                 at::Device device) const = 0;
  /// Sets those of its parameters that are read from a teacher rather than trained from scratch:
  /// `input` is what the teacher's own attention gets in this mixer's place. Writes into the
  /// tensors of parameters(). Most mixers have nothing to set.
  virtual void calibrate(const MixerInput& input) const {}
  /// "softmax", "window", "liger-gla", "tigon".
  virtual std::string kind() const = 0;
  /// One line for people, e.g. "window of 64 keys + gated recurrence (gate/16, mix 0.5)".
  virtual std::string describe() const = 0;
  /// New parameters by name (under model.layers.N.self_attn.mixer.); most mixers have none.
  virtual std::vector<std::pair<std::string, at::Tensor>> parameters() const { return {}; }
  /// log a, at most 0: what a token leaves of each channel of the recurrent state, [heads,
  /// channels] float32, the mean over the tokens of `input` where it depends on them. Undefined
  /// without a recurrence.
  virtual at::Tensor mean_log_decay(const MixerInput& input) const { return {}; }
  /// The same mixer with its recurrence switched off (its window alone); null if it has none.
  virtual std::shared_ptr<const Mixer> without_recurrence() const { return nullptr; }
};

/// One mixer a layer.
using MixerStack = std::vector<std::shared_ptr<const Mixer>>;

/// Sizes a mixer is built for.
struct HeadShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
};
HeadShape head_shape(const ModelConfig& config);

/// Causal softmax over all earlier keys (window_keys 0; its state is a cache of keys before RoPE
/// and values that grows by doubling) or the teacher's own sliding window (its state is a ring).
std::shared_ptr<const Mixer> make_softmax_mixer(const HeadShape& shape, int64_t window_keys = 0);

struct WindowMixerOptions {
  int64_t window_keys = 64;
  int64_t sinks = 0;
};
/// Softmax over the last keys and the first `sinks`; its state is a ring of window_keys keys
/// (before RoPE) and values, and the sinks.
std::shared_ptr<const Mixer> make_window_mixer(const HeadShape& shape,
                                               const WindowMixerOptions& options);

struct LigerGlaMixerOptions {
  int64_t window_keys = 64;
  double gate_normalizer = 16;
  double mix = 0.5;
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrix between tokens
};
/// Liger-GLA: (1 − mix) · window + mix · gated recurrence. Its state is the ring of the window and
/// one matrix [D, D] per KV head. Without the recurrence the window carries the whole
/// output (mix = 0): the plain window mixer.
std::shared_ptr<const Mixer> make_liger_gla_mixer(const HeadShape& shape,
                                                  const LigerGlaMixerOptions& options);

struct TigonMixerOptions {
  int64_t window_keys = 64;
  double decay_time = 512;   // tokens, of every channel before training
  int64_t feature_rank = 0;  // R > 0: features of second order of R numbers a head, E =
                             // (R+1)(R+2)/2 channels; 0: softmax, R = D and E = 2D
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrix between tokens
};
/// Softmax over the last window_keys keys and a linear recurrence over those that have left them,
/// under one denominator (ops/joint_attention). Its state is the ring of the window, with the
/// log-importance of each key in float32, and one matrix [E, D+1] per KV head. Parameters,
/// float32 on `device` and the mixer's own, so every layer needs a mixer for itself; M hidden_size:
///   w_q [H, D, R], w_k [Hkv, D, R]  feature maps, identity at first (of second order: its first R
///                                   columns, times D^−¼)
///   b_q [H, R], b_k [Hkv, R]        their biases, 0
///   log_tau [Hkv, E]                log decay time, log(decay_time)
///   w_importance [M, Hkv]           log-importance = 16/√M · x w_importance of the attention input
///                                   x, 0
///   w_mix [M, H], b_mix [H]         log weight of the recurrence, b_mix + 16/√M · x w_mix, 0
/// calibrate() sets b_k and b_mix, and of second order w_q and w_k (model/tigon_calibration.h).
/// Without the recurrence it is the plain window mixer.
std::shared_ptr<const Mixer> make_tigon_mixer(const HeadShape& shape, int64_t hidden_size,
                                              const TigonMixerOptions& options, at::Device device);

/// The teacher's own stack.
MixerStack make_teacher_stack(const ModelConfig& config);

}  // namespace tigon
