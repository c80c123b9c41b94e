// The arguments of gated_scan, checked and completed: what every implementation starts with.
#pragma once
#include "ops/gated_scan/gated_scan.h"

namespace tigon {

struct GatedScanArguments {
  /// Throws with name, expected and found for every argument that does not fit the others.
  GatedScanArguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_gate, const Segments& segments,
                     const std::optional<at::Tensor>& initial_state,
                     const GatedScanOptions& options);

  Segments segments, key_segments;  // N queries, M keys
  at::Tensor v;         // [M, Hv, V]; with a normalizer in the recurrence's dtype, its last
                        // column the ones
  at::Tensor log_gate;  // [M, Hg, K or 1]; a view if the gate is the same for all tokens
  at::Tensor
      initial_state;  // [S, Hs, K, V] in the dtype of the recurrence; zeros if none was given
};

}  // namespace tigon
