#include "model/liger_gates.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"

namespace tigon {
namespace {

// A state that fades by e^−100 is gone; more would only be infinite.
constexpr double kFastestFade = 100;

// [N, Hkv, D] → [N, Hkv, slots].
at::Tensor pool(const at::Tensor& k, int64_t slots) {
  const int64_t D = k.size(2);
  if (slots <= D) return k.unflatten(2, {slots, D / slots}).mean(-1);
  return k.repeat_interleave(slots / D, 2);
}

std::string power_text(double normalizer) {
  return normalizer == 1 ? "" : fmt::format("^(1/{})", normalizer);
}

std::string fraction_text(double normalizer) {
  return normalizer == 1 ? "" : fmt::format("/{}", normalizer);
}

}  // namespace

at::Tensor liger_log_gate(const at::Tensor& k, const LigerMixerOptions& options) {
  const double n = options.gate_normalizer;
  switch (options.variant) {
    case LigerVariant::kHgrn2: {
      const double lower = options.lower_bound;
      if (lower == 0) return at::log_sigmoid(k) / n;
      return at::log(lower + (1 - lower) * at::sigmoid(k)) / n;
    }
    case LigerVariant::kGsa:
      return at::log_sigmoid(pool(k, options.slots)) / n;
    case LigerVariant::kMamba2:
      return at::log_sigmoid(-k.mean(-1, /*keepdim=*/true)) / n;  // −softplus(x) = log σ(−x)
    case LigerVariant::kMlstm:
    case LigerVariant::kRetention:
      return at::log_sigmoid(k.mean(-1, /*keepdim=*/true)) / n;
    case LigerVariant::kRwkv6:
      break;
  }
  return -(k - std::log(n)).clamp_max(std::log(kFastestFade)).exp();
}

at::Tensor liger_write(const at::Tensor& k, const at::Tensor& log_gate,
                       const LigerMixerOptions& options) {
  const bool is_complement =
      options.variant == LigerVariant::kHgrn2 || options.variant == LigerVariant::kGsa;
  return is_complement ? -at::expm1(log_gate) : k.softmax(-1);
}

void check_liger_numbers(std::string_view mixer, int64_t window_keys, double gate_normalizer,
                         double mix) {
  if (window_keys < 1) {
    fail("{} mixer: expected window_keys ≥ 1, found {}", mixer, window_keys);
  }
  if (!(gate_normalizer > 0)) {
    fail("{} mixer: expected gate_normalizer > 0, found {}", mixer, gate_normalizer);
  }
  if (!(mix >= 0 && mix <= 1)) {
    fail("{} mixer: expected mix from 0 to 1, found {}", mixer, mix);
  }
}

std::string liger_gate_text(const LigerMixerOptions& options) {
  const double n = options.gate_normalizer;
  switch (options.variant) {
    case LigerVariant::kHgrn2:
      if (options.lower_bound == 0) return "σ(k)" + power_text(n);
      return fmt::format("({0} + (1−{0}) σ(k)){1}", options.lower_bound, power_text(n));
    case LigerVariant::kGsa:
      return fmt::format("σ(k){}, {} slots", power_text(n), options.slots);
    case LigerVariant::kMamba2:
      return fmt::format("exp(−softplus(mean k){})", fraction_text(n));
    case LigerVariant::kMlstm:
    case LigerVariant::kRetention:
      return "σ(mean k)" + power_text(n);
    case LigerVariant::kRwkv6:
      break;
  }
  return fmt::format("exp(−exp(k){})", fraction_text(n));
}

}  // namespace tigon
