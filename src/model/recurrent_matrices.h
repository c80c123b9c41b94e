// The float32 matrices of a gated recurrence, one set a slot: the part of a mixer's state that its
// scan hands on.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/mixer.h"

namespace tigon {

class RecurrentMatrices {
 public:
  /// Zeros [slots, shape …], e.g. {Hkv, K, V}.
  RecurrentMatrices(int64_t slots, std::vector<int64_t> shape, at::Device device);

  const at::Tensor& tensor() const { return matrices_; }
  void reset(int64_t slot);
  /// Those of a batch's slots, [S, shape …].
  at::Tensor read(const MixerInput& input) const;
  void write(const MixerInput& input, const at::Tensor& matrices);

 private:
  at::Tensor matrices_;
};

}  // namespace tigon
