// head_norm on the GPU: head_norm_kernel.cu for float32, bfloat16 and float16 heads of up to 512
// bytes, the plain definition elsewhere.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/head_norm/head_norm_call.h"
#include "ops/head_norm/head_norm_params.h"
#include "ops/kernel_arguments.h"
#include "ops/row_blocks.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool kernel_takes(const at::Tensor& x) {
  return has_kernel_type(x) && x.numel() > 0 && x.size(0) * x.size(1) <= kMostRows &&
         x.size(2) % kVectorMultiple == 0 && x.size(2) * x.element_size() <= kMostHeadBytes;
}

HeadNormParams params_of(const at::Tensor& x, const at::Tensor& out, double eps) {
  HeadNormParams params{};
  params.type = element_type(x);
  params.rows = x.size(0) * x.size(1);
  params.size = static_cast<int>(x.size(2));
  params.eps = static_cast<float>(eps);
  params.x = x.const_data_ptr();
  params.out = out.mutable_data_ptr();
  return params;
}

class HeadNorm : public torch::autograd::Function<HeadNorm> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, double eps) {
    const c10::cuda::CUDAGuard guard(x.device());
    const at::Tensor rows = with_vector_rows(x.contiguous()), out = empty_rows(x);
    C10_CUDA_CHECK(
        launch_head_norm_fwd(params_of(rows, out, eps), c10::cuda::getCurrentCUDAStream()));
    ctx->save_for_backward({x});
    ctx->saved_data["eps"] = eps;
    return {out};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("head_norm");
    const at::Tensor x = ctx->get_saved_variables()[0];
    const c10::cuda::CUDAGuard guard(x.device());
    const at::Tensor rows = with_vector_rows(x.contiguous()), dx = empty_rows(x);
    const at::Tensor dout = with_vector_rows(gradients[0].contiguous());
    HeadNormParams params = params_of(rows, dx, ctx->saved_data["eps"].toDouble());
    params.dout = dout.const_data_ptr();
    C10_CUDA_CHECK(launch_head_norm_bwd(params, c10::cuda::getCurrentCUDAStream()));
    return {dx, at::Tensor()};
  }
};

at::Tensor head_norm_cuda(const at::Tensor& x, double eps) {
  check_head_norm(x, eps);
  return kernel_takes(x) ? HeadNorm::apply(x, eps)[0] : head_norm_plain(x, eps);
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("head_norm", head_norm_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("head_norm", head_norm_cuda);
}

}  // namespace tigon
