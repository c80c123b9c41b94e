#include "model/balanced_maps.h"

#include <ATen/ATen.h>

#include <utility>

namespace tigon {
namespace {

// Of the largest eigenvalue of a moment, and at all: directions with less spread count as this.
constexpr double kLeastSpread = 1e-6, kLeastEigenvalue = 1e-12;
constexpr int64_t kFarthest = 8;  // windows

/// F [D, D] in float64 on the CPU.
at::Tensor mean_turn(const Rotary& rotary, int64_t window_keys) {
  const at::Tensor distances =
      at::arange(window_keys, kFarthest * window_keys, at::dtype(at::kDouble));
  const at::Tensor angles =
      distances.unsqueeze(1) * rotary.inverse_frequencies.to(at::kCPU, at::kDouble);
  const at::Tensor cos = angles.cos().mean(0).diag(), sin = angles.sin().mean(0).diag();
  return at::cat({at::cat({cos, sin}, 1), at::cat({-sin, cos}, 1)}) * rotary.scale * rotary.scale;
}

/// X^½ and X^−½ of moments X [Hkv, D, D].
std::pair<at::Tensor, at::Tensor> roots(const at::Tensor& moments) {
  const auto [values, vectors] = at::linalg_eigh(moments);
  const at::Tensor least = (kLeastSpread * values.amax(1, true)).clamp_min(kLeastEigenvalue);
  const at::Tensor spread = at::maximum(values, least).unsqueeze(1);
  const auto power = [&](double exponent) {
    return (vectors * spread.pow(exponent)).matmul(vectors.mT());
  };
  return {power(0.5), power(-0.5)};
}

}  // namespace

BalancedMaps balanced_maps(const at::Tensor& q, const at::Tensor& k, const Rotary& rotary,
                           int64_t window_keys, int64_t numbers) {
  const int64_t N = q.size(0), H = q.size(1), D = q.size(2), Hkv = k.size(1);
  const auto moments = [&](const at::Tensor& rows) {  // [Hkv, n, D], on the CPU
    return (rows.mT().matmul(rows) / static_cast<double>(rows.size(1))).to(at::kCPU);
  };
  const at::Tensor wide_q = q.to(at::kDouble), wide_k = k.to(at::kDouble);
  const at::Tensor queries = wide_q.view({N, Hkv, H / Hkv, D}).transpose(0, 1).flatten(1, 2);
  const at::Tensor keys = (wide_k - wide_k.mean(0, true)).transpose(0, 1);
  const auto [root_q, inverse_q] = roots(moments(queries));
  const auto [root_k, inverse_k] = roots(moments(keys));
  const auto [left, energy, right] =
      at::linalg_svd(root_q.matmul(mean_turn(rotary, window_keys)).matmul(root_k));
  const at::Tensor kept = energy.narrow(1, 0, numbers);  // [Hkv, R]
  const at::Tensor spread = kept.square().sum(1, true) / static_cast<double>(D);
  const at::Tensor scale = (static_cast<double>(D) * spread.clamp_min(1)).pow(-0.25);
  const at::Tensor side = (kept.sqrt() * scale).unsqueeze(1);
  const auto map = [&](const at::Tensor& inverse, const at::Tensor& directions) {
    return inverse.matmul(directions.narrow(2, 0, numbers)) * side;
  };
  return {map(inverse_q, left).repeat_interleave(H / Hkv, 0).to(q.device(), at::kFloat),
          map(inverse_k, right.mT()).to(k.device(), at::kFloat)};
}

}  // namespace tigon
