// One new token for each of many sequences that continue from a state: what liger_decode and
// joint_decode have in common. A state has slots; each holds a sequence's window, as a ring of the
// last W keys before RoPE and their values (position t in row t mod W), and a matrix per KV head.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace tigon {

/// S new tokens, one of each sequence.
struct DecodeTokens {
  at::Tensor q;                    // [S, H, D] before RoPE
  at::Tensor k, v;                 // [S, Hkv, D] before RoPE, dtype of q
  at::Tensor positions;            // [S] int64: how many tokens the sequence had before
  at::Tensor inverse_frequencies;  // [D/2] float32
  double rope_scale = 1;           // multiplies cos and sin
};

/// What a step changes in place. Ring rows that no key has been put into must hold finite numbers.
struct DecodeState {
  at::Tensor ring_keys, ring_values;  // [slots, W, Hkv, D] floating
  // [slots, Hkv, rows, columns] float32 (float64 for float64 inputs), or bfloat16 for inputs other
  // than float64: read as float32, and written by stochastic_round at the new token's position
  // after the output was made of the float32 numbers.
  at::Tensor matrices;
  std::optional<at::Tensor> slots = std::nullopt;  // [S] int64: of each sequence, every slot at
                                                   // most once; without it sequence s is in slot s,
                                                   // and there are S
};

/// Refuses what does not fit, but for the rows and columns of the matrices, which are the op's own;
/// and any call that would need a gradient, since there is none (`others`: further inputs that
/// might want one).
void check_decode_step(const char* op, const DecodeTokens& tokens, const DecodeState& state,
                       at::TensorList others);

/// x [slots, …] → [S, …] of the sequences' slots; x itself if there is no list of slots.
at::Tensor of_slots(const DecodeState& state, const at::Tensor& x);
/// The matrices of the sequences' slots, [S, Hkv, rows, columns], wide.
at::Tensor read_matrices(const DecodeTokens& tokens, const DecodeState& state);
/// The way back.
void write_matrices(const DecodeTokens& tokens, const DecodeState& state,
                    const at::Tensor& matrices);

/// Each sequence's row of a ring for its new token: its slot and its row there, int64 [S] each.
struct NewestRows {
  at::Tensor slots, rows;

  NewestRows(const DecodeTokens& tokens, const DecodeState& state);
  /// ring [slots, W, …] → [S, …]: before the step the key that leaves the window with it, if any.
  at::Tensor get(const at::Tensor& ring) const;
  void put(const at::Tensor& ring, const at::Tensor& x) const;
};

struct RingAttention {
  at::Tensor out;  // [S, H, D] float32 (float64 for float64 inputs)
  at::Tensor
      lse;  // [S, H] natural logarithm of the softmax denominator; undefined if not asked for
};

/// The new keys and values take their rows of the ring; softmax(RoPE(q)·RoPE(k)/√D) v over its W
/// rows, fewer where the sequence has fewer tokens. Wide whatever the dtypes.
RingAttention attend_ring(const DecodeTokens& tokens, const DecodeState& state,
                          const NewestRows& newest, bool return_lse = true);

}  // namespace tigon
