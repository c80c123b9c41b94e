#include "train/host_copy.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace tigon {

at::Tensor upload(const at::Tensor& tensor, const at::Device& device) {
  if (device.is_cpu()) return tensor;
  return tensor.pin_memory().to(device, /*non_blocking=*/true);
}

Batch upload(const Batch& batch, const at::Device& device) {
  Batch moved = batch;
  moved.tokens = upload(batch.tokens, device);
  moved.positions = upload(batch.positions, device);
  moved.segments.cu_seqlens = upload(batch.segments.cu_seqlens, device);
  return moved;
}

ScalarsToHost::ScalarsToHost(const std::vector<at::Tensor>& scalars) {
  const at::Tensor stacked = at::stack(scalars).to(at::kFloat);
  const at::Device device = stacked.device();
  if (device.is_cpu()) {
    host_ = stacked;
    return;
  }
  host_ = at::empty_like(stacked, at::TensorOptions(at::kCPU).pinned_memory(true));
  host_.copy_(stacked, /*non_blocking=*/true);
  is_copied_.emplace(device.type());
  is_copied_->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
}

std::vector<float> ScalarsToHost::read() {
  if (is_copied_) is_copied_->synchronize();
  const float* data = host_.const_data_ptr<float>();
  return {data, data + host_.numel()};
}

}  // namespace tigon
