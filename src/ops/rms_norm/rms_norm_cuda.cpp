// rms_norm and add_rms_norm on the GPU: rms_norm_kernel.cu for float32, bfloat16 and float16 rows
// of a multiple of kVectorMultiple, the plain definition elsewhere.
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/kernel_arguments.h"
#include "ops/rms_norm/rms_norm_call.h"
#include "ops/rms_norm/rms_norm_params.h"
#include "ops/row_blocks.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

bool kernel_takes(const at::Tensor& x) {
  return has_kernel_type(x) && x.numel() > 0 && x.size(0) <= kMostRows &&
         x.size(1) % kVectorMultiple == 0;
}

at::Tensor weight_of_type(const at::Tensor& weight, at::ScalarType type) {
  return with_vector_rows(weight.to(type));
}

at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& inverse_rms,
                           const at::Tensor& dout) {
  RmsNormWeightGradientParams params{};
  params.type = element_type(x);
  params.rows = x.size(0);
  params.size = x.size(1);
  params.x = x.const_data_ptr();
  params.x_row_stride = x.stride(0);
  params.inverse_rms = inverse_rms.const_data_ptr<float>();
  params.dout = dout.const_data_ptr();
  params.dout_row_stride = dout.stride(0);
  params.slices = row_slices(params.rows);
  const at::Tensor partial = at::empty({params.slices, params.size}, inverse_rms.options());
  params.partial = partial.mutable_data_ptr<float>();
  C10_CUDA_CHECK(launch_rms_norm_weight_gradient(params, c10::cuda::getCurrentCUDAStream()));
  return at::sum(partial, 0);
}

// With a residual the outputs are the sum and its norm, without one the norm of x alone.
class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  // Positions among the tensor arguments, as needs_input_grad counts them.
  enum Input : size_t { kX, kWeight, kResidual };

  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                               const OptionalTensor& residual, double eps) {
    const c10::cuda::CUDAGuard guard(x.device());
    const bool is_saved = x.requires_grad() || weight.requires_grad() ||
                          (residual.has_value() && residual->requires_grad());
    const at::Tensor rows = with_vector_rows(x), scales = weight_of_type(weight, x.scalar_type());
    const at::Tensor out = empty_rows(x);  // [N, M]
    at::Tensor added, sum, inverse_rms;
    RmsNormFwdParams params{};
    params.type = element_type(x);
    params.rows = x.size(0);
    params.size = x.size(1);
    params.x = rows.const_data_ptr();
    params.x_row_stride = rows.stride(0);
    params.weight = scales.const_data_ptr();
    params.eps = static_cast<float>(eps);
    params.out = out.mutable_data_ptr();
    if (residual.has_value()) {
      added = with_vector_rows(*residual);
      sum = empty_rows(x);
      params.residual = added.const_data_ptr();
      params.residual_row_stride = added.stride(0);
      params.sum = sum.mutable_data_ptr();
    }
    if (is_saved) {
      inverse_rms = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
      params.inverse_rms = inverse_rms.mutable_data_ptr<float>();
    }
    C10_CUDA_CHECK(launch_rms_norm_fwd(params, c10::cuda::getCurrentCUDAStream()));
    ctx->set_materialize_grads(false);
    if (is_saved) ctx->save_for_backward({sum.defined() ? sum : rows, weight, inverse_rms});
    ctx->saved_data["has_residual"] = residual.has_value();
    return sum.defined() ? variable_list{sum, out} : variable_list{out};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const bool has_residual = ctx->saved_data["has_residual"].toBool();
    refuse_double_backward(has_residual ? "add_rms_norm" : "rms_norm");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const c10::cuda::CUDAGuard guard(x.device());
    const bool needs_dx =
        ctx->needs_input_grad(kX) || (has_residual && ctx->needs_input_grad(kResidual));
    at::Tensor dx = has_residual ? gradients[0] : at::Tensor(), dweight;
    if (gradients.back().defined()) {
      const at::Tensor dout = with_vector_rows(gradients.back());
      if (ctx->needs_input_grad(kWeight)) {
        dweight = weight_gradient(x, inverse_rms, dout).to(weight.scalar_type());
      }
      if (needs_dx) dx = input_gradient(x, weight, inverse_rms, dout, dx);
    }
    if (!has_residual) return {dx, dweight, at::Tensor(), at::Tensor()};
    return {ctx->needs_input_grad(kX) ? dx : at::Tensor(), dweight,
            ctx->needs_input_grad(kResidual) ? dx : at::Tensor(), at::Tensor()};
  }

 private:
  // dsum, if defined, is added.
  static at::Tensor input_gradient(const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& inverse_rms, const at::Tensor& dout,
                                   const at::Tensor& dsum) {
    const at::Tensor scales = weight_of_type(weight, x.scalar_type());
    const at::Tensor added = dsum.defined() ? with_vector_rows(dsum) : at::Tensor();
    const at::Tensor dx = empty_rows(x);  // [N, M]
    RmsNormBwdParams params{};
    params.type = element_type(x);
    params.rows = x.size(0);
    params.size = x.size(1);
    params.x = x.const_data_ptr();
    params.x_row_stride = x.stride(0);
    params.weight = scales.const_data_ptr();
    params.inverse_rms = inverse_rms.const_data_ptr<float>();
    params.dout = dout.const_data_ptr();
    params.dout_row_stride = dout.stride(0);
    if (added.defined()) {
      params.dsum = added.const_data_ptr();
      params.dsum_row_stride = added.stride(0);
    }
    params.dx = dx.mutable_data_ptr();
    C10_CUDA_CHECK(launch_rms_norm_bwd(params, c10::cuda::getCurrentCUDAStream()));
    return dx;
  }
};

at::Tensor rms_norm_cuda(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_rms_norm("rms_norm", x, weight, eps);
  if (!kernel_takes(x)) return rms_norm_plain(x, weight, eps);
  return RmsNorm::apply(x, weight, std::nullopt, eps)[0];
}

std::tuple<at::Tensor, at::Tensor> add_rms_norm_cuda(const at::Tensor& x,
                                                     const at::Tensor& residual,
                                                     const at::Tensor& weight, double eps) {
  check_add_rms_norm(x, residual, weight, eps);
  if (!kernel_takes(x)) return add_rms_norm_plain(x, residual, weight, eps);
  const variable_list result = RmsNorm::apply(x, weight, OptionalTensor(residual), eps);
  return {result[0], result[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("rms_norm", rms_norm_cuda);
  m.impl("add_rms_norm", add_rms_norm_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("rms_norm", rms_norm_cuda);
  m.impl("add_rms_norm", add_rms_norm_cuda);
}

}  // namespace tigon
