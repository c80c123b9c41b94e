// A linear layer that an adapter can be put on.
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <optional>

namespace tigon {

/// A low-rank update: W + scale · B A.
struct Adapter {
  at::Tensor a;  // [rank, in] float32
  at::Tensor b;  // [out, rank] float32
  double scale = 1;
  double dropout = 0;  // on the adapter's input, while training
};

struct Linear {
  at::Tensor weight;     // [out, in]
  at::Tensor bias = {};  // [out], or undefined
  std::optional<Adapter> adapter = {};

  /// x [N, in] → [N, out] in x's dtype; weights of another dtype (trained in float32) are cast.
  /// `dropout_generator` is given while training; it lies on x's device.
  at::Tensor forward(const at::Tensor& x, bool use_adapter,
                     const std::optional<at::Generator>& dropout_generator) const;
};

}  // namespace tigon
