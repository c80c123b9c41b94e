// The registry of measured ops: each can be called, checked and recognised.
#include "bench/op_call.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

OpSizes small() {
  return {.lengths = {3, 70}, .heads = 4, .kv_heads = 2, .head_dim = 16, .vocabulary = 50};
}

}  // namespace

TEST_CASE("every op agrees with float64, outputs and gradients") {
  for (const OpCase& op : op_cases()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const OpCheck check = check_op(op, small(), test_device(), dtype);
      INFO(check.op << ": " << check.worst << " " << check.error);
      CHECK(check.holds());
      CHECK(check.error > 0);
    }
  }
}

TEST_CASE("a wrong op does not pass its check") {
  OpCase wrong = find_op_case("swiglu");
  // Wrong at low precision only: the float64 definition is what it should be.
  wrong.call = [](const OpSizes&, const Batch&, const std::vector<at::Tensor>& x) {
    const double fault = x[0].scalar_type() == at::kDouble ? 1 : 1.001;
    return std::vector<at::Tensor>{at::silu(x[0]) * x[1] * fault};
  };
  const OpCheck check = check_op(wrong, small(), test_device(), at::kFloat);
  CHECK_FALSE(check.holds());
  CHECK(check.error == Approx(0.001).epsilon(0.01));

  // Not a number in the gate's gradient alone: up's, which comes after it, is right.
  wrong.call = [](const OpSizes&, const Batch&, const std::vector<at::Tensor>& x) {
    const at::Tensor gate = x[0].scalar_type() == at::kDouble ? x[0] : x[0] + (x[0] * 0).sqrt();
    return std::vector<at::Tensor>{at::silu(gate) * x[1]};
  };
  const OpCheck not_a_number = check_op(wrong, small(), test_device(), at::kFloat);
  CHECK_FALSE(not_a_number.holds());
  CHECK(not_a_number.worst == "gradient of gate");
}

TEST_CASE("a call gives outputs and the gradient of every trained input by name") {
  const OpCall call(find_op_case("add_rms_norm"), small(), test_device(), at::kFloat);
  CHECK(call.forward().size() == 2);
  CHECK_FALSE(call.forward()[0].tensor.requires_grad());
  std::vector<std::string> names;
  for (const NamedTensor& result : call.forward_backward()) names.push_back(result.name);
  CHECK(names ==
        std::vector<std::string>{"output", "output", "gradient of x", "gradient of residual"});
  CHECK(call.bytes() == (2 * 73 * 64 + 64) * 4);
}

TEST_CASE("on the CPU every op is served by its plain definition") {
  for (const OpCase& op : op_cases()) {
    INFO(op.name);
    CHECK(served_by(op, small(), at::kCPU, at::kFloat) == "plain");
    CHECK(served_by(op, small(), at::kCPU, at::kBFloat16) == "plain");
  }
}

TEST_CASE("on a GPU kernels serve what they promise") {
  if (!test_device().is_cuda()) return;
  OpSizes sizes = small();
  const auto server = [&](const char* op) {
    return served_by(find_op_case(op), sizes, test_device(), at::kBFloat16);
  };
  for (const int64_t head_dim : {64, 96, 128}) {
    sizes.head_dim = head_dim;
    for (const char* op :
         {"joint_attention", "liger_attention", "gated_scan", "gated_scan_delayed", "head_norm",
          "rms_norm", "add_rms_norm", "rope", "swiglu", "swiglu_packed", "linear_cross_entropy"}) {
      INFO(op << " with heads of " << head_dim);
      CHECK(server(op) == "kernel");
    }
    CHECK(server("window_attention") == "FlashAttention");
    sizes.window_keys = 128;
    CHECK(server("joint_attention") == "kernel");
    sizes.window_keys = 64;
    CHECK(server("window_attention_sinks") == "FlashAttention");
    CHECK(server("joint_attention_second_order") == "FlashAttention");
  }
  CHECK(server("lora_linear") == "plain");
  CHECK(served_by(flash_window_case(), sizes, test_device(), at::kBFloat16) == "FlashAttention");
}

TEST_CASE("an unknown op is refused with the names there are") {
  const auto find = [] { find_op_case("attention"); };
  check_refused<UsageError>(find, "liger_attention, gated_scan");
  check_refused<UsageError>(find, "found 'attention'");
}
