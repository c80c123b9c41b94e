#include "bench/op_call.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "model/relative_rms.h"

namespace tigon {
namespace {

constexpr double kFloat32Tolerance = 1e-4, kBFloat16Tolerance = 2e-2;

Batch make_op_batch(const OpSizes& sizes, at::Device device) {
  return make_batch(std::vector<int64_t>(static_cast<size_t>(sizes.tokens())), sizes.lengths,
                    device);
}

/// Two KV heads of the given size and group: enough to show wrong heads, windows and borders.
OpSizes small_sizes(const OpSizes& sizes) {
  OpSizes small = sizes;
  small.lengths = {1, 63, 130};
  small.kv_heads = 2;
  small.heads = 2 * (sizes.heads / sizes.kv_heads);
  small.vocabulary = 512;
  return small;
}

/// The names of all ops that run in this thread while it lives. One at a time.
class OpWatch {
 public:
  OpWatch() {
    names().clear();
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(note).scopes({at::RecordScope::FUNCTION}));
  }
  ~OpWatch() { at::removeCallback(handle_); }
  OpWatch(const OpWatch&) = delete;
  OpWatch& operator=(const OpWatch&) = delete;

  bool saw(const std::string& name) const { return names().contains(name); }

 private:
  static std::set<std::string>& names() {
    thread_local std::set<std::string> seen;
    return seen;
  }
  static std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& function) {
    names().insert(function.name());
    return nullptr;
  }
  at::CallbackHandle handle_;
};

}  // namespace

OpCall::OpCall(const OpCase& op, const OpSizes& sizes, at::Device device, at::ScalarType dtype)
    : op_(&op), sizes_(sizes), batch_(make_op_batch(sizes, device)) {
  const at::NoGradGuard no_gradient;
  inputs_ = op.inputs(sizes, batch_, at::device(device).dtype(dtype));
  for (const at::Tensor& output : call()) upstream_.push_back(at::randn_like(output));
  for (OpInput& input : inputs_) {
    if (input.kind == InputKind::kTrained) input.value.requires_grad_();
  }
}

OpCall OpCall::in_float64() const {
  const at::NoGradGuard no_gradient;
  OpCall wide;
  wide.op_ = op_;
  wide.sizes_ = sizes_;
  wide.batch_ = make_op_batch(sizes_, at::kCPU);
  for (const OpInput& input : inputs_) {
    const bool is_fixed = input.kind == InputKind::kFixed;
    const at::ScalarType type = is_fixed ? input.value.scalar_type() : at::kDouble;
    wide.inputs_.push_back({input.name, input.value.to(at::kCPU, type), input.kind});
    if (input.kind == InputKind::kTrained) wide.inputs_.back().value.requires_grad_();
  }
  for (const at::Tensor& gradient : upstream_) {
    wide.upstream_.push_back(gradient.to(at::kCPU, at::kDouble));
  }
  return wide;
}

std::vector<at::Tensor> OpCall::call() const {
  std::vector<at::Tensor> values;
  for (const OpInput& input : inputs_) values.push_back(input.value);
  return op_->call(sizes_, batch_, values);
}

std::vector<NamedTensor> OpCall::forward() const {
  const at::NoGradGuard no_gradient;
  std::vector<NamedTensor> results;
  for (const at::Tensor& output : call()) results.push_back({"output", output});
  return results;
}

std::vector<NamedTensor> OpCall::forward_backward() const {
  const std::vector<at::Tensor> outputs = call();
  std::vector<std::string> names;
  std::vector<at::Tensor> trained;
  for (const OpInput& input : inputs_) {
    if (input.kind != InputKind::kTrained) continue;
    names.push_back("gradient of " + input.name);
    trained.push_back(input.value);
  }
  const std::vector<at::Tensor> gradients = torch::autograd::grad(outputs, trained, upstream_);
  std::vector<NamedTensor> results;
  for (const at::Tensor& output : outputs) results.push_back({"output", output});
  for (size_t i = 0; i < names.size(); ++i) results.push_back({names[i], gradients[i]});
  return results;
}

int64_t OpCall::bytes() const {
  int64_t bytes = 0;
  for (const OpInput& input : inputs_) bytes += static_cast<int64_t>(input.value.nbytes());
  return bytes;
}

OpCheck check_op(const OpCase& op, const OpSizes& sizes, at::Device device, at::ScalarType dtype) {
  const OpCall call(op, small_sizes(sizes), device, dtype);
  const std::vector<NamedTensor> found = call.forward_backward();
  const std::vector<NamedTensor> expected = call.in_float64().forward_backward();
  OpCheck check{.op = op.name,
                .tolerance = dtype == at::kFloat ? kFloat32Tolerance : kBFloat16Tolerance};
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = relative_rms(found[i].tensor, expected[i].tensor);
    if (i > 0 && error <= check.error) continue;
    check.worst = found[i].name;
    check.error = error;
    if (std::isnan(error)) break;  // nothing is worse
  }
  return check;
}

std::string served_by(const OpCase& op, const OpSizes& sizes, at::Device device,
                      at::ScalarType dtype) {
  const OpCall call(op, small_sizes(sizes), device, dtype);
  const OpWatch watch;
  call.forward();
  const bool is_plain =
      std::ranges::any_of(op.plain_ops, [&](const std::string& name) { return watch.saw(name); });
  if (is_plain) return "plain";
  return watch.saw("aten::_flash_attention_forward") ? "FlashAttention" : "kernel";
}

}  // namespace tigon
