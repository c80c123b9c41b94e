// rope on the GPU: rope_kernel.cu for float32, bfloat16 and float16 heads of a
// multiple of 2 · kVectorMultiple, the plain definition elsewhere.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/kernel_arguments.h"
#include "ops/rope/rope_call.h"
#include "ops/rope/rope_params.h"
#include "ops/row_blocks.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool kernel_takes(const at::Tensor& x) {
  return has_kernel_type(x) && x.numel() > 0 && x.size(0) <= kMostRows &&
         x.size(1) * x.size(2) <= INT32_MAX && x.size(2) % (2 * kVectorMultiple) == 0 &&
         x.size(2) <= kRopeLargestHead;
}

at::Tensor turned(const at::Tensor& x, const at::Tensor& positions,
                  const at::Tensor& inverse_frequencies, double scale, bool is_inverse) {
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor rows = with_vector_rows(x), where = positions.contiguous(),
                   frequencies = inverse_frequencies.contiguous();
  const at::Tensor out = at::empty(x.sizes(), x.options());  // [N, H, D]
  RopeParams params{};
  params.type = element_type(x);
  params.tokens = x.size(0);
  params.heads = x.size(1);
  params.head_size = x.size(2);
  params.x = rows.const_data_ptr();
  params.x_token_stride = rows.stride(0);
  params.x_head_stride = rows.stride(1);
  params.positions = where.const_data_ptr<int64_t>();
  params.inverse_frequencies = frequencies.const_data_ptr<float>();
  params.scale = static_cast<float>(scale);
  params.is_inverse = is_inverse;
  params.out = out.mutable_data_ptr();
  C10_CUDA_CHECK(launch_rope(params, c10::cuda::getCurrentCUDAStream()));
  return out;
}

// A rotation is linear in x: nothing of x is saved, and its gradient is the rotation back.
class Rope : public torch::autograd::Function<Rope> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& positions,
                            const at::Tensor& inverse_frequencies, double scale) {
    ctx->save_for_backward({positions, inverse_frequencies});
    ctx->saved_data["scale"] = scale;
    return turned(x, positions, inverse_frequencies, scale, /*is_inverse=*/false);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("rope");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dx = turned(gradients[0], saved[0], saved[1],
                                 ctx->saved_data["scale"].toDouble(), /*is_inverse=*/true);
    return {dx, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor rope_cuda(const at::Tensor& x, const at::Tensor& positions,
                     const at::Tensor& inverse_frequencies, double scale) {
  check_rope(x, positions, inverse_frequencies);
  // Frequencies are constants of a model: the kernels give them no gradient.
  if (!kernel_takes(x) || inverse_frequencies.requires_grad()) {
    return rope_plain(x, positions, inverse_frequencies, scale);
  }
  return Rope::apply(x, positions, inverse_frequencies, scale);
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("rope", rope_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("rope", rope_cuda);
}

}  // namespace tigon
