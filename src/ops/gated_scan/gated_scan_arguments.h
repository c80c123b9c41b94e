// The arguments of gated_scan, checked, and completed for the plain implementations.
#pragma once
#include <tuple>

#include "ops/gated_scan/gated_scan.h"

namespace tigon {

struct GatedScanCall {
  at::Tensor q, k, v;
  at::Tensor log_gate;              // [M or 1, Hg, K or 1]
  Segments segments, key_segments;  // N queries, M keys
  at::Tensor initial_state;         // undefined if none was given
  int64_t state_heads;              // never 0
  int64_t delay;
  bool normalizer;
};

/// Throws with name, expected and found for every argument that does not fit the others.
GatedScanCall check_gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& log_gate, const Segments& segments,
                               const std::optional<at::Tensor>& initial_state,
                               const GatedScanOptions& options);

/// The same from the schema's arguments.
GatedScanCall check_gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& log_gate, const at::Tensor& cu_seqlens,
                               const std::optional<at::Tensor>& initial_state, int64_t state_heads,
                               at::OptionalIntArrayRef lengths, bool normalizer, int64_t delay,
                               const std::optional<at::Tensor>& key_cu_seqlens,
                               at::OptionalIntArrayRef key_lengths);

/// What the plain implementations complete.
struct GatedScanArguments {
  explicit GatedScanArguments(const GatedScanCall& call);

  at::Tensor v;         // [M, Hv, V]; with a normalizer in the recurrence's dtype, its last
                        // column the ones
  at::Tensor log_gate;  // [M, Hg, K or 1]; a view if the gate is the same for all tokens
  at::Tensor
      initial_state;  // [S, Hs, K, V] in the dtype of the recurrence; zeros if none was given
};

/// The plain definition, for any device.
GatedScanResult gated_scan_plain(const GatedScanCall& call);

}  // namespace tigon
