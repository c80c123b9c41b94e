#include "ops/lora_linear/lora_linear.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/block_diag.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <string>

#include "ops/checks.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

// N tokens, I inputs, O outputs, rank R.
struct Forward {
  at::Tensor out;       // [N, O]
  at::Tensor low_rank;  // [N, R] (x · mask) Aᵀ
};

Forward lora_linear_fwd(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                        const at::Tensor& lora_a, const at::Tensor& lora_b, double scale,
                        const OptionalTensor& mask) {
  const at::ScalarType type = x.scalar_type();
  const at::Tensor dropped = mask ? x * mask->to(type) : x;
  Forward result;
  result.low_rank = at::mm(dropped, lora_a.to(type).t());
  result.out = at::linear(x, weight.to(type), bias ? OptionalTensor(bias->to(type)) : std::nullopt);
  result.out.addmm_(result.low_rank, lora_b.to(type).t(), 1, scale);
  return result;
}

// Keeps less than plain autograd would: no x · mask and no casts of the weights; and the adapter's
// product is added in place, without an [N, O] tensor of its own.
class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  // Positions among the tensor arguments, as needs_input_grad counts them; an absent bias shifts
  // only the mask, which never has a gradient.
  enum Input : size_t { kX, kWeight, kLoraA, kLoraB, kBias };

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& lora_a, const at::Tensor& lora_b,
                            const OptionalTensor& bias, const OptionalTensor& mask, double scale) {
    const Forward result = lora_linear_fwd(x, weight, bias, lora_a, lora_b, scale, mask);
    const bool x_is_needed = weight.requires_grad() || lora_a.requires_grad();
    const bool mask_is_needed = x.requires_grad() || lora_a.requires_grad();
    ctx->save_for_backward({
        x_is_needed ? x : at::Tensor(),
        x.requires_grad() ? weight : at::Tensor(),
        x.requires_grad() ? lora_a : at::Tensor(),
        lora_b,
        lora_b.requires_grad() ? result.low_rank : at::Tensor(),
        mask_is_needed && mask ? *mask : at::Tensor(),
    });
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->saved_data["weight_type"] = weight.scalar_type();
    ctx->saved_data["a_type"] = lora_a.scalar_type();
    if (bias) ctx->saved_data["bias_type"] = bias->scalar_type();
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("lora_linear");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &lora_a = saved[2], &lora_b = saved[3],
                     &low_rank = saved[4], &mask = saved[5];
    const at::Tensor& dout = gradients[0];  // [N, O]
    const at::ScalarType type = dout.scalar_type();
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto saved_type = [&](const char* key) { return ctx->saved_data[key].toScalarType(); };

    at::Tensor dx, dweight, dlora_a, dlora_b, dbias;
    at::Tensor dlow_rank;  // [N, R]
    if (ctx->needs_input_grad(kX) || ctx->needs_input_grad(kLoraA)) {
      dlow_rank = at::mm(dout, lora_b.to(type)).mul_(scale);
    }
    if (ctx->needs_input_grad(kX)) {
      dx = at::mm(dout, weight.to(type));
      if (mask.defined()) {
        dx.add_(at::mm(dlow_rank, lora_a.to(type)).mul_(mask.to(type)));
      } else {
        dx.addmm_(dlow_rank, lora_a.to(type));
      }
    }
    if (ctx->needs_input_grad(kWeight)) dweight = at::mm(dout.t(), x).to(saved_type("weight_type"));
    if (ctx->needs_input_grad(kLoraA)) {
      const at::Tensor dropped = mask.defined() ? x * mask.to(type) : x;
      dlora_a = at::mm(dlow_rank.t(), dropped).to(saved_type("a_type"));
    }
    if (ctx->needs_input_grad(kLoraB)) {
      dlora_b = at::mm(dout.t(), low_rank).mul_(scale).to(lora_b.scalar_type());
    }
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(kBias)) {
      dbias = at::sum(dout, 0).to(saved_type("bias_type"));
    }
    return {dx, dweight, dlora_a, dlora_b, dbias, /*dmask=*/at::Tensor(), /*dscale=*/at::Tensor()};
  }
};

at::Tensor lora_linear_plain(const at::Tensor& x, const at::Tensor& weight,
                             const OptionalTensor& bias, const at::Tensor& lora_a,
                             const at::Tensor& lora_b, double scale,
                             const OptionalTensor& dropout_mask) {
  const char* op = "lora_linear";
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize});
  check_floating(op, "weight", weight);
  check_shape(op, "weight", weight, {kAnySize, x.size(1)});
  check_device(op, "weight", weight, x);
  check_floating(op, "lora_a", lora_a);
  check_shape(op, "lora_a", lora_a, {kAnySize, x.size(1)});
  check_device(op, "lora_a", lora_a, x);
  check_floating(op, "lora_b", lora_b);
  check_shape(op, "lora_b", lora_b, {weight.size(0), lora_a.size(0)});
  check_device(op, "lora_b", lora_b, x);
  if (bias) {
    check_floating(op, "bias", *bias);
    check_shape(op, "bias", *bias, {weight.size(0)});
    check_device(op, "bias", *bias, x);
  }
  if (dropout_mask) {
    check_floating(op, "dropout_mask", *dropout_mask);
    check_shape(op, "dropout_mask", *dropout_mask, {x.size(0), x.size(1)});
    check_device(op, "dropout_mask", *dropout_mask, x);
    TORCH_CHECK(
        !dropout_mask->requires_grad(),
        "[lora_linear] dropout_mask: expected a constant, found one that requires a gradient");
  }
  return LoraLinear::apply(x, weight, lora_a, lora_b, bias, dropout_mask, scale);
}

// Checks what lora_linear cannot see of the lists.
void check_packed(const at::Tensor& weight, at::TensorList lora_a, at::TensorList lora_b) {
  const char* op = "lora_linear_packed";
  TORCH_CHECK(!lora_a.empty(), "[", op, "] lora_a: expected at least one matrix, found none");
  TORCH_CHECK(lora_b.size() == lora_a.size(), "[", op, "] lora_b: expected ", lora_a.size(),
              " matrices, one for each of lora_a, found ", lora_b.size());
  check_shape(op, "weight", weight, {kAnySize, kAnySize});
  int64_t outputs = 0;
  for (size_t p = 0; p < lora_a.size(); ++p) {
    const std::string a = "lora_a[" + std::to_string(p) + "]";
    const std::string b = "lora_b[" + std::to_string(p) + "]";
    check_shape(op, a.c_str(), lora_a[p], {kAnySize, weight.size(1)});
    check_dtype(op, a.c_str(), lora_a[p], lora_a[0].scalar_type());
    check_device(op, a.c_str(), lora_a[p], weight);
    check_shape(op, b.c_str(), lora_b[p], {kAnySize, lora_a[p].size(0)});
    check_dtype(op, b.c_str(), lora_b[p], lora_b[0].scalar_type());
    check_device(op, b.c_str(), lora_b[p], weight);
    outputs += lora_b[p].size(0);
  }
  TORCH_CHECK(weight.size(0) == outputs, "[", op, "] weight: expected ", outputs,
              " rows, as many as lora_b has together, found ", weight.size(0));
}

// The zeros between the blocks cost a product of ΣR columns instead of R, still far below the
// weight's, and save the reads and writes of [N, ΣO] that a product for each layer would make.
at::Tensor lora_linear_packed_plain(const at::Tensor& x, const at::Tensor& weight,
                                    const OptionalTensor& bias, at::TensorList lora_a,
                                    at::TensorList lora_b, double scale,
                                    const OptionalTensor& dropout_mask) {
  check_packed(weight, lora_a, lora_b);
  return lora_linear(x, weight, bias, at::cat(lora_a), at::block_diag(lora_b), scale, dropout_mask);
}

}  // namespace

at::Tensor lora_linear(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                       const at::Tensor& lora_a, const at::Tensor& lora_b, double scale,
                       const OptionalTensor& dropout_mask) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::lora_linear", "")
                             .typed<decltype(lora_linear_plain)>();
  return op.call(x, weight, bias, lora_a, lora_b, scale, dropout_mask);
}

at::Tensor lora_linear_packed(const at::Tensor& x, const at::Tensor& weight,
                              const OptionalTensor& bias, at::TensorList lora_a,
                              at::TensorList lora_b, double scale,
                              const OptionalTensor& dropout_mask) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::lora_linear_packed", "")
                             .typed<decltype(lora_linear_packed_plain)>();
  return op.call(x, weight, bias, lora_a, lora_b, scale, dropout_mask);
}

}  // namespace tigon

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "lora_linear(Tensor x, Tensor weight, Tensor? bias, Tensor lora_a, Tensor lora_b, "
      "float scale, Tensor? dropout_mask=None) -> Tensor");
  m.def(
      "lora_linear_packed(Tensor x, Tensor weight, Tensor? bias, Tensor[] lora_a, Tensor[] lora_b, "
      "float scale, Tensor? dropout_mask=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("lora_linear", tigon::lora_linear_plain);
  m.impl("lora_linear_packed", tigon::lora_linear_packed_plain);
}
