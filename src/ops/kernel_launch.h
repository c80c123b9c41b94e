// One call of kernels, from its host side. CUDA builds only.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <cuda_runtime_api.h>

#include <vector>

namespace tigon {

/// What every kernel of one call reads, and the tensors that it lives in.
template <typename Params>
struct KernelLaunch {
  Params params = {};
  std::vector<at::Tensor> kept;
  cudaStream_t stream = nullptr;

  at::Tensor keep(at::Tensor tensor) {
    kept.push_back(tensor);
    return tensor;
  }
  at::Tensor make(at::IntArrayRef shape, at::ScalarType type, const at::Device& device) {
    return keep(at::empty(shape, at::TensorOptions(type).device(device)));
  }
};

}  // namespace tigon
