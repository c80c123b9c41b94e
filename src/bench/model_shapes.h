// Models by name, as sizes alone: what is measured with random weights.
#pragma once
#include <string>
#include <vector>

#include "model/forward.h"

namespace tigon {

/// "1B" (Llama-3.2-1B), "3B" (Llama-3.2-3B), "8B" (Llama-3.1-8B), "llama-2-7B",
/// "mistral-7B", "25M" and "tiny".
const std::vector<std::string>& model_shape_names();
/// Throws UsageError that lists the names if there is none of this name.
ModelConfig model_shape(const std::string& name);

/// Weights from normal(0, 0.02), norms 1, drawn on the device itself in `stored`: seconds for 8 B
/// parameters.
Model random_model_on_device(const ModelConfig& config, at::ScalarType stored,
                             at::ScalarType compute_dtype, at::Device device);

}  // namespace tigon
