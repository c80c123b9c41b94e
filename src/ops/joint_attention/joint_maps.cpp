#include "ops/joint_attention/joint_maps.h"

#include <ATen/Functions.h>

#include <cmath>

namespace tigon {
namespace {

constexpr double kShortestDecayTime = 8;  // tokens

}  // namespace

at::Tensor joint_feature_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  const at::Tensor z = x.transpose(0, 1).matmul(w.to(x.scalar_type())).transpose(0, 1) + b;
  return at::cat({z, -z}, -1).softmax(-1);
}

at::Tensor joint_log_decay(const at::Tensor& log_tau, at::ScalarType type) {
  return -(-log_tau.to(type).clamp_min(std::log(kShortestDecayTime))).exp();
}

}  // namespace tigon
