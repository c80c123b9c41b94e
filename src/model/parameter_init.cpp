#include "model/parameter_init.h"

#include <ATen/ATen.h>

namespace tigon {

at::Tensor uniform_parameter(at::IntArrayRef shape, double bound, uint64_t seed,
                             at::Device device) {
  if (device.is_meta()) return at::empty(shape, at::device(device).dtype(at::kFloat));
  at::Tensor values = at::empty(shape, at::kFloat);
  Random random(seed);
  auto* const data = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    data[i] = static_cast<float>((2 * random.uniform() - 1) * bound);
  }
  return values.to(device);
}

}  // namespace tigon
