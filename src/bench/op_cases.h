// The ops that are measured: random inputs for each, and the call on them.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "bench/op_work.h"
#include "model/batch.h"

namespace tigon {

enum class InputKind {
  kTrained,  // floating-point, gets a gradient
  kFrozen,   // floating-point, gets none
  kFixed,    // keeps its dtype, whatever the op computes in
};

struct OpInput {
  std::string name;
  at::Tensor value;
  InputKind kind = InputKind::kTrained;
};

struct OpCase {
  std::string name;
  /// Random inputs for a batch of sizes.lengths, of the dtype and device of `options`; parameters
  /// that are trained in float32 whatever the model computes in are float32.
  std::vector<OpInput> (*inputs)(const OpSizes& sizes, const Batch& batch,
                                 const at::TensorOptions& options);
  /// The op on the inputs' values, in their order; the outputs that a training step uses.
  std::vector<at::Tensor> (*call)(const OpSizes& sizes, const Batch& batch,
                                  const std::vector<at::Tensor>& x);
  Work (*work)(const OpSizes& sizes, int64_t element, Pass pass);
  /// Ops of which the plain definition runs at least one on any device, and a kernel none.
  std::vector<std::string> plain_ops;
  /// Its sources in src/ops, if that is not its name.
  std::string folder = {};
};

/// Every op, in the order in which they are measured.
const std::vector<OpCase>& op_cases();
/// Throws UsageError that lists the names if there is none of this name.
const OpCase& find_op_case(const std::string& name);

/// LibTorch's FlashAttention over a window of the last keys: the peer of liger_attention. Only for
/// float16 and bfloat16 on a GPU.
const OpCase& flash_window_case();

}  // namespace tigon
