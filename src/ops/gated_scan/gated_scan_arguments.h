// The arguments of gated_scan, checked and completed: what every implementation starts with.
#pragma once
#include "ops/gated_scan/gated_scan.h"

namespace tigon {

struct GatedScanArguments {
  /// Throws with name, expected and found for every argument that does not fit the others.
  GatedScanArguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_gate, const Segments& segments,
                     const std::optional<at::Tensor>& initial_state, int64_t state_heads);

  at::Tensor log_gate;  // [N, Hg, K or 1]
  at::Tensor
      initial_state;  // [S, Hs, K, V] in the dtype of the recurrence; zeros if none was given
};

}  // namespace tigon
