#include "model/rotary.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "core/error.h"

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

double scaled_frequency(const RopeConfig& rope, double frequency) {
  if (rope.type == "default") return frequency;
  if (rope.type == "linear") return frequency / rope.factor;
  if (rope.type == "llama3") return scale_by_wavelength(rope, frequency);
  fail("rope type: expected default, linear or llama3, found \"{}\"", rope.type);
}

}  // namespace

Rotary make_rotary(const RopeConfig& rope, int64_t head_dim, at::Device device) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(head_dim);
    const double frequency = std::pow(rope.theta, -exponent);
    frequencies.push_back(static_cast<float>(scaled_frequency(rope, frequency)));
  }
  return {.inverse_frequencies = at::tensor(frequencies, at::kFloat).to(device), .scale = 1.0};
}

}  // namespace tigon
