// swiglu and swiglu_packed on the GPU: swiglu_kernel.cu for float32, bfloat16 and float16 rows of a
// multiple of kVectorMultiple, the plain definition elsewhere.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/kernel_arguments.h"
#include "ops/row_blocks.h"
#include "ops/swiglu/swiglu_call.h"
#include "ops/swiglu/swiglu_params.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool kernel_takes(const at::Tensor& gate) {
  return has_kernel_type(gate) && gate.numel() > 0 && gate.size(0) <= kMostRows &&
         gate.size(1) % kVectorMultiple == 0;
}

// gate and up with vector rows → [N, F].
at::Tensor swiglu_fwd(const GateAndUp& in) {
  const c10::cuda::CUDAGuard guard(in.gate.device());
  const at::Tensor out = empty_rows(in.gate);
  SwigluFwdParams params{};
  params.type = element_type(in.gate);
  params.rows = in.gate.size(0);
  params.size = in.gate.size(1);
  params.gate = in.gate.const_data_ptr();
  params.gate_row_stride = in.gate.stride(0);
  params.up = in.up.const_data_ptr();
  params.up_row_stride = in.up.stride(0);
  params.out = out.mutable_data_ptr();
  C10_CUDA_CHECK(launch_swiglu_fwd(params, c10::cuda::getCurrentCUDAStream()));
  return out;
}

// Writes those of the gradients [N, F] that are defined; their rows are vector rows.
void swiglu_bwd(const GateAndUp& in, const at::Tensor& upstream, const GateAndUp& gradients) {
  const at::Tensor dout = with_vector_rows(upstream);
  SwigluBwdParams params{};
  params.type = element_type(in.gate);
  params.rows = in.gate.size(0);
  params.size = in.gate.size(1);
  params.gate = in.gate.const_data_ptr();
  params.gate_row_stride = in.gate.stride(0);
  params.up = in.up.const_data_ptr();
  params.up_row_stride = in.up.stride(0);
  params.dout = dout.const_data_ptr();
  params.dout_row_stride = dout.stride(0);
  if (gradients.gate.defined()) {
    params.dgate = gradients.gate.mutable_data_ptr();
    params.dgate_row_stride = gradients.gate.stride(0);
  }
  if (gradients.up.defined()) {
    params.dup = gradients.up.mutable_data_ptr();
    params.dup_row_stride = gradients.up.stride(0);
  }
  C10_CUDA_CHECK(launch_swiglu_bwd(params, c10::cuda::getCurrentCUDAStream()));
}

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  enum Input : size_t { kGate, kUp };

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    const GateAndUp in{with_vector_rows(gate), with_vector_rows(up)};
    ctx->save_for_backward({in.gate, in.up});
    return swiglu_fwd(in);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("swiglu");
    const variable_list saved = ctx->get_saved_variables();
    const c10::cuda::CUDAGuard guard(saved[0].device());
    GateAndUp result;
    if (ctx->needs_input_grad(kGate)) result.gate = empty_rows(saved[0]);
    if (ctx->needs_input_grad(kUp)) result.up = empty_rows(saved[1]);
    swiglu_bwd({saved[0], saved[1]}, gradients[0], result);
    return {result.gate, result.up};
  }
};

class SwigluPacked : public torch::autograd::Function<SwigluPacked> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    const at::Tensor rows = with_vector_rows(gate_up);  // [N, 2F]
    ctx->save_for_backward({rows});
    return swiglu_fwd(halves(rows));
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("swiglu_packed");
    const at::Tensor gate_up = ctx->get_saved_variables()[0];
    const c10::cuda::CUDAGuard guard(gate_up.device());
    const at::Tensor dgate_up = empty_rows(gate_up);  // [N, 2F]
    swiglu_bwd(halves(gate_up), gradients[0], halves(dgate_up));
    return {dgate_up};
  }
};

at::Tensor swiglu_cuda(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return kernel_takes(gate) ? Swiglu::apply(gate, up) : swiglu_plain(gate, up);
}

at::Tensor swiglu_packed_cuda(const at::Tensor& gate_up) {
  check_swiglu_packed(gate_up);
  return kernel_takes(halves(gate_up).gate) ? SwigluPacked::apply(gate_up)
                                            : swiglu_packed_plain(gate_up);
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("swiglu", swiglu_cuda);
  m.impl("swiglu_packed", swiglu_packed_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("swiglu", swiglu_cuda);
  m.impl("swiglu_packed", swiglu_packed_cuda);
}

}  // namespace tigon
