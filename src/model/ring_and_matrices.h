// The state of a mixer that is a softmax window beside a recurrence: the window's ring, and
// matrices.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/key_value_ring.h"
#include "model/recurrent_matrices.h"

namespace tigon {

class RingAndMatrices : public MixerState {
 public:
  /// A ring of ring_keys keys in `dtype`, and one set of matrices [slots, shape …] in
  /// `matrix_dtype` for each shape.
  RingAndMatrices(const HeadShape& shape, int64_t ring_keys,
                  const std::vector<std::vector<int64_t>>& matrix_shapes, int64_t slots,
                  at::ScalarType dtype, at::ScalarType matrix_dtype, at::Device device)
      : ring(shape, ring_keys, /*sinks=*/0, slots, dtype, device) {
    for (const auto& matrix_shape : matrix_shapes) {
      matrices.emplace_back(slots, matrix_shape, matrix_dtype, device);
    }
  }

  std::vector<at::Tensor> tensors() const override {
    std::vector<at::Tensor> all = ring.tensors();
    for (const RecurrentMatrices& set : matrices) all.push_back(set.tensor());
    return all;
  }

  void reset(int64_t slot) override {
    ring.reset(slot);
    for (RecurrentMatrices& set : matrices) set.reset(slot);
  }

  KeyValueRing ring;
  std::vector<RecurrentMatrices> matrices;
};

}  // namespace tigon
