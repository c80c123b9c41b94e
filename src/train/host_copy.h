// Tensors between host and device without waiting: batches go up, measured numbers come down.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>
#include <vector>

#include "model/batch.h"

namespace tigon {

/// A CPU tensor on `device`, through pinned memory, not waiting for the copy. On the CPU: itself.
at::Tensor upload(const at::Tensor& tensor, const at::Device& device);
Batch upload(const Batch& batch, const at::Device& device);

/// Scalars on their way to the host. The copy starts at once; read() waits for it alone, not for
/// work queued later.
class ScalarsToHost {
 public:
  explicit ScalarsToHost(const std::vector<at::Tensor>& scalars);
  std::vector<float> read();

 private:
  at::Tensor host_;  // [scalars] float32
  std::optional<c10::Event> is_copied_;
};

}  // namespace tigon
