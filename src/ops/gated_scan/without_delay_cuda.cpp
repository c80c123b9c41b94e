// without_delay on the GPU: one kernel moves the rows, and their gradients back. It reads where
// segments lie from the device, so that a recorded training step can hold it.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/checks.h"
#include "ops/gated_scan/delayed_rows_params.h"
#include "ops/gated_scan/without_delay.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x [rows of `from`, …] → [rows of `to`, …].
at::Tensor move_rows(const at::Tensor& x, const Segments& from, const Segments& to, int64_t shift) {
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor source = x.contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = to.total;
  const at::Tensor result = at::empty(shape, x.options());
  const at::Tensor from_seqlens = from.cu_seqlens.contiguous();
  const at::Tensor to_seqlens = to.cu_seqlens.contiguous();
  int64_t row_bytes = x.element_size();
  for (size_t i = 1; i < shape.size(); ++i) row_bytes *= shape[i];
  if (row_bytes == 0 || to.total == 0) return result;
  C10_CUDA_CHECK(cuda::launch_delayed_rows({.from = source.const_data_ptr(),
                                            .to = result.mutable_data_ptr(),
                                            .from_seqlens = from_seqlens.const_data_ptr<int32_t>(),
                                            .to_seqlens = to_seqlens.const_data_ptr<int32_t>(),
                                            .segments = static_cast<int>(to.count()),
                                            .rows = to.total,
                                            .row_bytes = row_bytes,
                                            .shift = shift},
                                           c10::cuda::getCurrentCUDAStream(x.device().index())));
  return result;
}

/// Where queries and keys lie, carried by the graph.
struct KeptSegments : torch::CustomClassHolder {
  KeptSegments(Segments queries_to_keep, Segments keys_to_keep)
      : queries(std::move(queries_to_keep)), keys(std::move(keys_to_keep)) {}
  Segments queries, keys;
};

class RowsOfDelayedSteps : public torch::autograd::Function<RowsOfDelayedSteps> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Segments& queries,
                            const Segments& keys, int64_t delay) {
    ctx->saved_data["segments"] =
        c10::IValue::make_capsule(c10::make_intrusive<KeptSegments>(queries, keys));
    ctx->saved_data["delay"] = delay;
    return move_rows(x, keys, queries, -delay);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& upstream) {
    refuse_double_backward("gated_scan");
    const auto capsule = ctx->saved_data["segments"].toCapsule();
    const auto& segments = static_cast<const KeptSegments&>(*capsule);
    const at::Tensor gradient =
        move_rows(upstream[0], segments.queries, segments.keys, ctx->saved_data["delay"].toInt());
    return {gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

GatedScanCall without_delay_on_gpu(const GatedScanCall& call) {
  check_device("gated_scan", "key_cu_seqlens", call.key_segments.cu_seqlens, call.q);
  return without_delay(call, [&](const at::Tensor& x) {
    return RowsOfDelayedSteps::apply(x, call.segments, call.key_segments, call.delay);
  });
}

}  // namespace tigon
