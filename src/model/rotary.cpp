#include "model/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace tigon {
namespace {

/// llama3: wavelengths longer than the original context are stretched by `factor`, those that fit
/// it high_freq_factor times stay, and those between move smoothly from one to the other.
double scale_by_wavelength(const RopeConfig& rope, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double periods = static_cast<double>(rope.original_max_position_embeddings) / wavelength;
  if (periods < rope.low_freq_factor) return frequency / rope.factor;
  if (periods > rope.high_freq_factor) return frequency;
  const double share =
      (periods - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - share) * frequency / rope.factor + share * frequency;
}

/// dynamic: the base of sequences of num_tokens tokens.
double dynamic_theta(const RopeConfig& rope, int64_t head_dim, int64_t num_tokens) {
  const double trained = static_cast<double>(rope.original_max_position_embeddings);
  const double tokens = std::max(static_cast<double>(num_tokens), trained);
  const double dim = static_cast<double>(head_dim);
  const double stretch = rope.factor * tokens / trained - (rope.factor - 1);
  return rope.theta * std::pow(stretch, dim / (dim - 2));
}

/// yarn: dimensions that turn more than beta_fast times within the trained length keep their
/// frequency, those that turn less than beta_slow times are interpolated, those between blended.
class YarnBlend {
 public:
  YarnBlend() = default;
  YarnBlend(const RopeConfig& rope, int64_t head_dim) {
    const double dim = static_cast<double>(head_dim);
    const auto dimension_of_turns = [&](double turns) {
      const double trained = static_cast<double>(rope.original_max_position_embeddings);
      return dim * std::log(trained / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
    };
    low_ = dimension_of_turns(rope.beta_fast);
    high_ = dimension_of_turns(rope.beta_slow);
    if (rope.truncate) {
      low_ = std::floor(low_);
      high_ = std::ceil(high_);
    }
    low_ = std::max(low_, 0.0);
    high_ = std::min(high_, dim - 1);
    if (low_ == high_) high_ += 0.001;  // a step
  }

  double frequency(double kept, double factor, int64_t pair) const {
    const double share = std::clamp((static_cast<double>(pair) - low_) / (high_ - low_), 0.0, 1.0);
    return share * kept / factor + (1 - share) * kept;
  }

 private:
  double low_ = 0, high_ = 0;  // pairs of dimensions
};

double yarn_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor > 0) return rope.attention_factor;
  const auto growth = [&](double mscale) {
    return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  if (rope.mscale > 0 && rope.mscale_all_dim > 0) {
    return growth(rope.mscale) / growth(rope.mscale_all_dim);
  }
  return growth(1.0);
}

}  // namespace

bool depends_on_length(const RopeConfig& rope, int64_t num_tokens) {
  return rope.type == "dynamic" && num_tokens > rope.original_max_position_embeddings;
}

Rotary make_rotary(const RopeConfig& rope, int64_t head_dim, at::Device device,
                   int64_t num_tokens) {
  const bool is_dynamic = rope.type == "dynamic", is_yarn = rope.type == "yarn";
  const double theta = is_dynamic ? dynamic_theta(rope, head_dim, num_tokens) : rope.theta;
  const YarnBlend yarn = is_yarn ? YarnBlend(rope, head_dim) : YarnBlend();
  const auto scaled = [&](double frequency, int64_t pair) {
    if (rope.type == "linear") return frequency / rope.factor;
    if (rope.type == "llama3") return scale_by_wavelength(rope, frequency);
    if (is_yarn) return yarn.frequency(frequency, rope.factor, pair);
    TORCH_INTERNAL_ASSERT(rope.type == "default" || is_dynamic, "rope type ", rope.type);
    return frequency;
  };
  std::vector<float> frequencies;
  for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
    const double exponent = 2 * static_cast<double>(pair) / static_cast<double>(head_dim);
    frequencies.push_back(static_cast<float>(scaled(std::pow(theta, -exponent), pair)));
  }
  return {.inverse_frequencies = at::tensor(frequencies, at::kFloat).to(device),
          .scale = is_yarn ? yarn_attention_factor(rope) : 1.0};
}

}  // namespace tigon
