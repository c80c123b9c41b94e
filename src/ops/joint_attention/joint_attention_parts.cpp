#include "ops/joint_attention/joint_attention_parts.h"

#include <ATen/Functions.h>

#include <cmath>

#include "ops/checks.h"

namespace tigon {
namespace {

// Of φq·S^1. Below it N/Z has lost its digits, and its gradient could overflow in float32.
constexpr double kLeastMass = 1e-30;

}  // namespace

void check_joint_input(const char* op, const char* name, const at::Tensor& x, const at::Tensor& q,
                       std::initializer_list<int64_t> shape) {
  check_floating(op, name, x);
  check_device(op, name, x, q);
  check_shape(op, name, x, shape);
  TORCH_CHECK((x.scalar_type() == at::kDouble) == (q.scalar_type() == at::kDouble), "[", op, "] ",
              name, ": expected float64 exactly if q (", q.scalar_type(), ") is, found ",
              x.scalar_type());
}

at::Tensor joint_feature_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  const at::Tensor z = x.transpose(0, 1).matmul(w.to(x.scalar_type())).transpose(0, 1) + b;
  return at::cat({z, -z}, -1).softmax(-1);
}

at::Tensor joint_importance(const at::Tensor& log_importance, at::ScalarType type) {
  return log_importance.to(type).clamp(-kLongestLogImportance, kLongestLogImportance).exp();
}

at::Tensor joint_log_decay(const at::Tensor& log_tau, at::ScalarType type) {
  return -(-log_tau.to(type).clamp_min(std::log(kShortestDecayTime))).exp();
}

at::Tensor under_one_denominator(const at::Tensor& near, const at::Tensor& lse,
                                 const at::Tensor& scan, const at::Tensor& log_mix) {
  const int64_t D = near.size(2);
  const at::Tensor mass = scan.select(-1, D);  // [N, H]
  const at::Tensor has_far = mass > kLeastMass;
  const at::Tensor safe_mass = at::where(has_far, mass, 1.0);
  const at::Tensor far = scan.narrow(-1, 0, D) / safe_mass.unsqueeze(-1);
  const at::Tensor share =
      at::where(has_far, (log_mix.to(near.scalar_type()) + safe_mass.log() - lse).sigmoid(), 0.0);
  return at::lerp(near, far, share.unsqueeze(-1));
}

}  // namespace tigon
