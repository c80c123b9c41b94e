// The scan in blocks: matrix products inside blocks, states handed from block to block.
#pragma once
#include "ops/gated_scan/gated_scan.h"

namespace tigon {

/// Arguments as gated_scan has checked and completed them: log_gate [N, Hg, K or 1], state_heads
/// not 0. Computes in the dtype of initial_state [S, Hs, K, V], in which the state is returned.
/// Saves its inputs and the states between blocks; backward makes the rest again.
GatedScanResult gated_scan_chunked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& log_gate, const Segments& segments,
                                   const at::Tensor& initial_state);

}  // namespace tigon
