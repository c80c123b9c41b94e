// Runs a mixer on tensors of q, k and v, and compares outputs and every gradient, those of its
// parameters included, with a per-token definition in float64.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/forward.h"
#include "model/rotary.h"
#include "ops/joint_attention_definition.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

namespace tigon::testing {

using NamedTensors = std::map<std::string, at::Tensor>;

/// A batch whose tokens do not matter, one segment a length. With a state, one a slot.
inline Batch batch_of(const std::vector<int64_t>& lengths, const ModelState* state = nullptr) {
  std::vector<std::vector<int64_t>> sequences;
  for (const int64_t length : lengths) sequences.emplace_back(length, 1);
  return make_batch(sequences, test_device(), state);
}

inline Rotary rotary_of(int64_t head_dim) {
  return make_rotary(RopeConfig{}, head_dim, test_device());
}

/// A mixer's output [N, H, D] for q, k and v. With a state, a forward pass of its first layer.
inline at::Tensor run_mixer(const Mixer& mixer, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const Batch& batch, ModelState* state = nullptr) {
  RingIndexes rings(batch);
  const Rotary rotary = rotary_of(q.size(2));
  const MixerInput input{.hidden = at::zeros({q.size(0), 1}, q.options()),
                         .q = q,
                         .k = k,
                         .v = v,
                         .batch = batch,
                         .rotary = rotary,
                         .rings = state == nullptr ? nullptr : &rings};
  const at::Tensor out = mixer.forward(input, state == nullptr ? nullptr : &state->layer(0));
  if (state != nullptr) state->advance(batch);
  return out;
}

inline NamedTensors parameters_of(const Mixer& mixer) {
  const auto list = mixer.parameters();
  return {list.begin(), list.end()};
}

/// One segment of a mixer from its formula, in float64: q [T, H, D], k and v [T, Hkv, D] and the
/// mixer's parameters by name → [T, H, D].
using SegmentDefinition = std::function<at::Tensor(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors& parameters)>;

/// Compares output and all gradients with a definition, on ragged segments.
inline void check_definition(const Mixer& mixer, const HeadShape& shape,
                             const SegmentDefinition& definition,
                             const std::vector<int64_t>& lengths = {23, 1, 0, 14}) {
  const Batch batch = batch_of(lengths);
  const int64_t N = batch.segments.total, H = shape.num_heads, L = shape.num_kv_heads;
  const auto random = [&](int64_t heads, uint64_t seed) {
    return random_tensor({N, heads, shape.head_dim}, seed, at::kDouble).requires_grad_(true);
  };
  const at::Tensor q = random(H, 1), k = random(L, 2), v = random(L, 3);
  std::vector<std::string> names = {"q", "k", "v"};
  std::vector<at::Tensor> own = {q, k, v}, wide = {q, k, v};
  NamedTensors parameters;
  for (auto [name, parameter] : mixer.parameters()) {
    names.push_back(name);
    own.push_back(parameter.requires_grad_(true));
    wide.push_back(parameter.detach().to(at::kDouble).requires_grad_(true));
    parameters[name] = wide.back();
  }
  const at::Tensor found = run_mixer(mixer, q, k, v, batch);
  std::vector<at::Tensor> rows;
  int64_t from = 0;
  for (const int64_t T : lengths) {
    const auto segment = [&](const at::Tensor& x) { return x.narrow(0, from, T); };
    if (T > 0) rows.push_back(definition(segment(q), segment(k), segment(v), parameters));
    from += T;
  }
  const at::Tensor expected = at::cat(rows);
  check_close("out", found, expected, kExactMath);
  const at::Tensor upstream = random_tensor(found.sizes(), 4, at::kDouble);
  const auto gradients = torch::autograd::grad({found}, own, {upstream});
  const auto expected_gradients = torch::autograd::grad({expected}, wide, {upstream});
  for (size_t i = 0; i < names.size(); ++i) {
    // Parameters are float32, and so are their gradients.
    check_close("d" + names[i], gradients[i], expected_gradients[i],
                i < 3 ? kExactMath : kFloat32Op);
  }
  for (auto [name, parameter] : mixer.parameters()) parameter.requires_grad_(false);
}

/// x [heads, D] at a position, with the tests' frequencies.
inline at::Tensor rotated_at(const at::Tensor& x, int64_t position) {
  return turned(x, at::full({}, position, x.options()), rotary_of(x.size(-1)).inverse_frequencies,
                1);
}

/// Scores [H, j − first + 1] of query i of a segment for its keys first … last.
inline at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, int64_t i, int64_t first,
                            int64_t last) {
  const at::Tensor query = rotated_at(q[i], i);
  std::vector<at::Tensor> scores;
  for (int64_t j = first; j <= last; ++j) {
    const at::Tensor key = rotated_at(k[j], j).repeat_interleave(q.size(1) / k.size(1), 0);
    scores.push_back((query * key).sum(-1) / std::sqrt(static_cast<double>(q.size(2))));
  }
  return at::stack(scores, -1);
}

/// v [T, Hkv, D] of keys first … last for each query head: [H, keys, D].
inline at::Tensor values_of(const at::Tensor& v, int64_t heads, int64_t first, int64_t last) {
  return v.slice(0, first, last + 1).repeat_interleave(heads / v.size(1), 1).transpose(0, 1);
}

/// Softmax attention of query i of a segment over keys first … i: [H, D].
inline at::Tensor attention_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               int64_t i, int64_t first) {
  const at::Tensor weights = scores_of(q, k, i, first, i).softmax(-1);
  return weights.unsqueeze(1).matmul(values_of(v, q.size(1), first, i)).squeeze(1);
}

}  // namespace tigon::testing
