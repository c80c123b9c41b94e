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

void check_joint_parameters(const char* op, const JointAttentionParameters& p, const at::Tensor& q,
                            int64_t kv_heads) {
  const int64_t H = q.size(1), D = q.size(2), L = kv_heads;
  // The numbers that are mapped; softmax takes as many as a head has.
  const int64_t R = p.second_order && p.w_q.dim() == 3 ? p.w_q.size(2) : D;
  check_joint_input(op, "w_q", p.w_q, q, {H, D, R});
  check_joint_input(op, "b_q", p.b_q, q, {H, R});
  check_joint_input(op, "w_k", p.w_k, q, {L, D, R});
  check_joint_input(op, "b_k", p.b_k, q, {L, R});
  check_joint_input(op, "log_tau", p.log_tau, q, {L, joint_feature_channels(R, p.second_order)});
}

at::Tensor joint_feature_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                             bool second_order) {
  const auto mapped = [&](const at::Tensor& weight, const at::Tensor& bias) {
    return x.transpose(0, 1).matmul(weight.to(x.scalar_type())).transpose(0, 1) + bias;
  };
  if (!second_order) {
    const at::Tensor z = mapped(w, b);
    return at::cat({z, -z}, -1).softmax(-1);
  }
  // Both factors of every product come out of the map itself, whose columns are copied by a product
  // with ones and zeros: its gradient adds in one order, unlike that of a gather.
  const int64_t R = w.size(2), products = R * (R + 1) / 2;
  const at::Tensor pairs = at::triu_indices(R, R, 0, at::device(x.device()).dtype(at::kLong));
  const at::Tensor left = pairs[0], right = pairs[1];
  const auto columns = [&](const at::Tensor& y) {
    const at::Tensor eye = at::eye(R, y.options());
    return y.matmul(at::cat({eye, eye.index_select(1, left), eye.index_select(1, right)}, 1));
  };
  const at::Tensor all = mapped(columns(w), columns(b));  // [N, H, R + 2 products]
  const at::Tensor scale =
      at::ones({products}, all.options()).masked_fill_(left == right, std::sqrt(0.5));
  const at::Tensor z = all.narrow(-1, 0, R);
  return at::cat({at::ones_like(z.narrow(-1, 0, 1)), z,
                  all.narrow(-1, R, products) * all.narrow(-1, R + products, products) * scale},
                 -1);
}

at::Tensor joint_query_features(const at::Tensor& q, const JointAttentionParameters& p) {
  return joint_feature_map(q, p.w_q, p.b_q, p.second_order);
}

at::Tensor joint_key_features(const at::Tensor& k, const JointAttentionParameters& p) {
  return joint_feature_map(k, p.w_k, p.b_k, p.second_order);
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
