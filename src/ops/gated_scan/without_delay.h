// A gated_scan whose queries lag behind their keys, or follow a cached prefix, as one where every
// query's step takes in the query's own key.
#pragma once
#include <functional>

#include "ops/gated_scan/gated_scan_arguments.h"

namespace tigon {

/// The call with k, v and log_gate as each query's step takes them in: N rows, those of the keys
/// `delay` places before. Where a segment has no such key yet, k and v are 0 and the log-gate is
/// 0: a step that changes nothing. A gate that is the same for all tokens stays one row where that
/// gives the same states. Keeps gradients; the call itself where there is nothing to do.
GatedScanCall without_delay(const GatedScanCall& call);

/// [M, …] → [N, …]: the rows of the keys that each query's step takes in, zeros where there is no
/// such key. Keeps gradients.
using RowsOfSteps = std::function<at::Tensor(const at::Tensor&)>;

/// The same with rows taken by `rows_of_steps`.
GatedScanCall without_delay(const GatedScanCall& call, const RowsOfSteps& rows_of_steps);

/// The same by a kernel, for tensors on a GPU. CUDA builds only.
GatedScanCall without_delay_on_gpu(const GatedScanCall& call);

}  // namespace tigon
