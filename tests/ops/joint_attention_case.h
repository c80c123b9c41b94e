// What the tests of joint_attention share: a ragged batch, random inputs for it, and the op as a
// function of all its tensors.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "ops/joint_attention/joint_attention.h"
#include "ops/op_run.h"
#include "ops/rope_inputs.h"

namespace tigon::testing::joint {

inline constexpr int64_t kHeads = 6, kKvHeads = 2, kSize = 6;
enum Input { kQ, kK, kV, kWQ, kBQ, kWK, kBK, kLogImportance, kLogMix, kLogTau, kState };
inline const std::vector<std::string> kInputs = {"q",
                                                 "k",
                                                 "v",
                                                 "w_q",
                                                 "b_q",
                                                 "w_k",
                                                 "b_k",
                                                 "log_importance",
                                                 "log_mix",
                                                 "log_tau",
                                                 "initial_state"};
inline const std::vector<std::string> kOutputs = {"out", "state"};

struct Case {
  std::vector<int64_t> lengths;
  std::vector<int64_t> prefixes = {};  // keys before the first query; none if the list is empty
  JointAttentionOptions options = {.window_keys = 3};
  int64_t second_order_numbers = 0;  // 0: softmax features

  int64_t mapped_numbers() const { return second_order_numbers > 0 ? second_order_numbers : kSize; }
  int64_t channels() const {
    return joint_feature_channels(mapped_numbers(), second_order_numbers > 0);
  }
  JointAttentionParameters parameters(const std::vector<at::Tensor>& x) const {
    return {x[kWQ], x[kBQ], x[kWK], x[kBK], x[kLogTau], second_order_numbers > 0};
  }
  Segments queries() const { return Segments::from_lengths(lengths, test_device()); }
  Segments keys() const {
    std::vector<int64_t> all = lengths;
    for (size_t s = 0; s < prefixes.size(); ++s) all[s] += prefixes[s];
    return Segments::from_lengths(all, test_device());
  }
  JointAttentionInputs inputs(const std::vector<at::Tensor>& x) const {
    return {x[kQ],
            x[kK],
            x[kV],
            positions(keys()),
            inverse_frequencies(x[kQ].size(-1)),
            x[kLogImportance],
            x[kLogMix]};
  }
};

// In float64. Importances on both sides of the clip, decay times on both sides of their bound.
inline std::vector<at::Tensor> random_inputs(const Case& c) {
  const int64_t N = c.queries().total, M = c.keys().total, S = c.queries().count();
  const int64_t H = kHeads, L = kKvHeads, D = kSize, R = c.mapped_numbers(), E = c.channels();
  const auto random = [](at::IntArrayRef shape, uint64_t seed) {
    return random_tensor(shape, seed, at::kDouble);
  };
  return {random({N, H, D}, 1),
          random({M, L, D}, 2),
          random({M, L, D}, 3),
          random({H, D, R}, 4) / 2,
          random({H, R}, 5),
          random({L, D, R}, 6) / 2,
          random({L, R}, 7),
          4 * random({M, L}, 8),
          random({N, H}, 9),
          2 + random({L, E}, 10),
          random({S, L, E, D + 1}, 11).abs()};
}

inline OpFunction op(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] =
        joint_attention(c.inputs(x), c.parameters(x), c.queries(), c.keys(), c.options, x[kState]);
    return {out, state};
  };
}

}  // namespace tigon::testing::joint
