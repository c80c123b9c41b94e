// gated_scan and its definition, as functions of their tensors.
#pragma once
#include "ops/gated_scan/gated_scan.h"
#include "ops/op_run.h"

namespace tigon::testing {

/// What log_gate is one number of.
enum class Gate { kPerChannel, kPerHead, kFixedPerChannel, kFixedPerHead };

/// Keys of segments of these lengths, with the cached prefix of each; `prefixes` may be empty.
inline Segments keys_of(std::vector<int64_t> lengths, const std::vector<int64_t>& prefixes) {
  for (size_t s = 0; s < prefixes.size(); ++s) lengths[s] += prefixes[s];
  return Segments::from_lengths(std::move(lengths), test_device());
}

/// q, k, v, log_gate, initial_state → out, state. A case has segments() and options().
template <class Case>
OpFunction gated_scan_of(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] = gated_scan(x[0], x[1], x[2], x[3], c.segments(), x[4], c.options());
    return {out, state};
  };
}

/// The same token by token.
template <class Case>
OpFunction gated_scan_recurrent_of(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] =
        gated_scan_recurrent(x[0], x[1], x[2], x[3], c.segments(), x[4], c.options());
    return {out, state};
  };
}

}  // namespace tigon::testing
