// The matrices of a gated recurrence, one set a slot: the part of a mixer's state that its scan
// hands on.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "model/mixer.h"

namespace tigon {

/// Float32, or bfloat16 between tokens: read as float32 all the same, and rounded stochastically
/// (ops/stochastic_round) when they are kept, at the position of a segment's last token.
class RecurrentMatrices {
 public:
  /// Zeros [slots, shape …], e.g. {Hkv, K, V}. Throws Error for any other dtype.
  RecurrentMatrices(int64_t slots, std::vector<int64_t> shape, at::ScalarType dtype,
                    at::Device device);

  const at::Tensor& tensor() const { return matrices_; }
  void reset(int64_t slot);
  /// Those of a batch's slots, [S, shape …] float32.
  at::Tensor read(const MixerInput& input) const;
  /// matrices [S, shape …], wide.
  void write(const MixerInput& input, const at::Tensor& matrices);

 private:
  at::Tensor matrices_;
};

/// For a mixer's description: nothing for float32, else ", state in bfloat16".
std::string state_dtype_text(at::ScalarType dtype);

}  // namespace tigon
