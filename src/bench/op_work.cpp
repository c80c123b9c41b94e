#include "bench/op_work.h"

#include <algorithm>
#include <numeric>

#include "ops/joint_attention/joint_attention.h"

namespace tigon {
namespace {

constexpr int64_t kFloat = 4, kInt64 = 8;  // bytes of an element

Work passes(const Work& forward, const Work& backward, Pass pass) {
  return pass == Pass::kForward ? forward : forward + backward;
}

/// Bytes of a mixer's tensors.
struct MixerBytes {
  MixerBytes(const OpSizes& sizes, int64_t element)
      : queries(sizes.tokens() * sizes.heads * sizes.head_dim * element),
        keys_values(2 * sizes.tokens() * sizes.kv_heads * sizes.head_dim * element),
        positions(sizes.tokens() * kInt64) {}
  int64_t queries;      // [N, H, D]: q, the output, and their gradients
  int64_t keys_values;  // two of [N, Hkv, D]
  int64_t positions;    // [N] int64
};

/// Operations of a recurrence with states [Hkv, K, V], token by token, forward: each KV head adds
/// kᵀ v, each query head reads q S. Backward has twice as many products: for dq and dS, and for dk
/// and dv.
int64_t recurrence_flop(const OpSizes& sizes, int64_t K, int64_t V) {
  return 2 * sizes.tokens() * K * V * (sizes.heads + sizes.kv_heads);
}

/// Operations of a softmax window, forward: q kᵀ and p v for each pair of query and key. Backward
/// has twice as many products: for dv and dp, and for dq and dk (the scores are not counted again).
int64_t window_flop(const OpSizes& sizes) {
  return 4 * window_pairs(sizes) * sizes.heads * sizes.head_dim;
}

/// A linear layer with adapters: x [N, I] times a frozen W [O, I], A [ranks, I] and, each for its
/// own part of the output, B's [part, R] that together have O rows.
Work adapted_linear_work(int64_t N, int64_t I, int64_t O, int64_t ranks, int64_t R, int64_t element,
                         Pass pass) {
  const int64_t x = N * I * element, weight = O * I * element, out = N * O * element;
  const int64_t adapters = (ranks * I + O * R) * kFloat;
  const int64_t low_rank_flop = 2 * N * (I * ranks + O * R);
  // Backward reads x (for dA), W, A, B and dout and writes dx, dA and dB; each adapter matrix meets
  // two products, W one.
  return passes(
      {.bytes = x + weight + adapters + out, .flop = 2 * N * I * O + low_rank_flop},
      {.bytes = 2 * x + weight + 2 * adapters + out, .flop = 2 * N * I * O + 2 * low_rank_flop},
      pass);
}

/// Of maps to R numbers and E channels of features.
Work joint_work(const OpSizes& sizes, int64_t element, Pass pass, int64_t R, int64_t E) {
  const MixerBytes b(sizes, element);
  const int64_t N = sizes.tokens(), H = sizes.heads, Hkv = sizes.kv_heads, D = sizes.head_dim;
  const int64_t states = static_cast<int64_t>(sizes.lengths.size()) * Hkv * E * (D + 1) * kFloat;
  // Both feature maps (w, b), log_tau, and a log-importance or log-mix for every token and head.
  const int64_t trained = ((H + Hkv) * (D * R + R) + Hkv * E + N * (H + Hkv)) * kFloat;
  const int64_t features_flop = 2 * N * (H + Hkv) * D * R;
  const int64_t flop = window_flop(sizes) + features_flop + recurrence_flop(sizes, E, D + 1);
  // q, k, v, positions, what is trained → out, states; then the same with dout → all gradients.
  return passes(
      {.bytes = 2 * b.queries + b.keys_values + b.positions + trained + states, .flop = flop},
      {.bytes = 3 * b.queries + 2 * b.keys_values + b.positions + 2 * trained, .flop = 2 * flop},
      pass);
}

}  // namespace

int64_t OpSizes::tokens() const {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

int64_t window_pairs(const OpSizes& sizes) {
  int64_t pairs = 0;
  for (const int64_t length : sizes.lengths) {
    const int64_t filling = std::min(length, sizes.window_keys);  // queries that see 1, 2, 3 … keys
    pairs += filling * (filling + 1) / 2 + (length - filling) * sizes.window_keys;
  }
  return pairs;
}

Work window_attention_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const MixerBytes b(sizes, element);
  // q, k, v → out; then q, k, v, dout → dq, dk, dv.
  return passes({.bytes = 2 * b.queries + b.keys_values, .flop = window_flop(sizes)},
                {.bytes = 3 * b.queries + 2 * b.keys_values, .flop = 2 * window_flop(sizes)}, pass);
}

Work gated_scan_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const MixerBytes b(sizes, element);
  const int64_t D = sizes.head_dim;
  const int64_t gates = sizes.tokens() * sizes.kv_heads * D * kFloat;
  const int64_t states =
      static_cast<int64_t>(sizes.lengths.size()) * sizes.kv_heads * D * D * kFloat;
  const int64_t flop = recurrence_flop(sizes, D, D);
  // q, k, v, gates → out, states; then q, k, v, gates, dout → dq, dk, dv, dgates.
  return passes({.bytes = 2 * b.queries + b.keys_values + gates + states, .flop = flop},
                {.bytes = 3 * b.queries + 2 * b.keys_values + 2 * gates, .flop = 2 * flop}, pass);
}

Work liger_attention_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const MixerBytes b(sizes, element);
  const int64_t D = sizes.head_dim;
  const int64_t states =
      static_cast<int64_t>(sizes.lengths.size()) * sizes.kv_heads * D * D * kFloat;
  const int64_t flop = window_flop(sizes) + recurrence_flop(sizes, D, D);
  // q, k, v, positions → out, states; then q, k, v, positions, dout → dq, dk, dv.
  return passes({.bytes = 2 * b.queries + b.keys_values + b.positions + states, .flop = flop},
                {.bytes = 3 * b.queries + 2 * b.keys_values + b.positions, .flop = 2 * flop}, pass);
}

Work joint_attention_work(const OpSizes& sizes, int64_t element, Pass pass) {
  return joint_work(sizes, element, pass, sizes.head_dim, 2 * sizes.head_dim);
}

Work joint_second_order_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t R = sizes.second_order_numbers;
  return joint_work(sizes, element, pass, R, joint_feature_channels(R, true));
}

Work head_norm_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const MixerBytes b(sizes, element);
  // x → out; then x, dout → dx.
  return passes({.bytes = 2 * b.queries}, {.bytes = 3 * b.queries}, pass);
}

Work rms_norm_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t weight = sizes.hidden() * element, rows = sizes.tokens() * weight;
  // x, weight → out; then x, weight, dout → dx. The weight is frozen.
  return passes({.bytes = 2 * rows + weight}, {.bytes = 3 * rows + weight}, pass);
}

Work add_rms_norm_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t weight = sizes.hidden() * element, rows = sizes.tokens() * weight;
  // x, residual, weight → sum, out; then sum, weight and both gradients → the one of both inputs.
  return passes({.bytes = 4 * rows + weight}, {.bytes = 4 * rows + weight}, pass);
}

Work rope_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const MixerBytes b(sizes, element);
  // x, positions → out; then dout, positions → dx.
  const Work once = {.bytes = 2 * b.queries + b.positions};
  return passes(once, once, pass);
}

Work swiglu_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t rows = sizes.tokens() * sizes.intermediate() * element;
  // gate, up → out; then gate, up, dout → dgate, dup.
  return passes({.bytes = 3 * rows}, {.bytes = 5 * rows}, pass);
}

Work lora_linear_work(const OpSizes& sizes, int64_t element, Pass pass) {
  return adapted_linear_work(sizes.tokens(), sizes.hidden(), sizes.hidden(), sizes.lora_rank,
                             sizes.lora_rank, element, pass);
}

Work lora_linear_packed_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t outputs = (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim;
  return adapted_linear_work(sizes.tokens(), sizes.hidden(), outputs, 3 * sizes.lora_rank,
                             sizes.lora_rank, element, pass);
}

Work linear_cross_entropy_work(const OpSizes& sizes, int64_t element, Pass pass) {
  const int64_t N = sizes.tokens(), M = sizes.hidden(), V = sizes.vocabulary;
  const int64_t hidden = N * M * element, head = V * M * element, targets = N * kInt64;
  // hidden, head, targets → loss; its gradient, dlogits head → dhidden, is made in the same pass.
  return passes({.bytes = hidden + head + targets, .flop = 2 * N * M * V},
                {.bytes = hidden, .flop = 2 * N * M * V}, pass);
}

}  // namespace tigon
