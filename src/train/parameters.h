// The tensors a run trains, by name, and the table that says how many there are.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "linearize/convert.h"
#include "train/config.h"

namespace tigon {

/// One trained tensor: float32, requires a gradient.
struct Parameter {
  std::string name;  // Hugging Face's or peft's, as checkpoints spell it
  at::Tensor tensor;
  bool is_new = false;  // added by the recipe
};

/// Numbers of parameters.
struct ParameterTable {
  int64_t base = 0, lora = 0, added = 0, trainable = 0;
};

/// Makes a model's parameters trainable as `trainable` says and returns them in a fixed order.
/// lora: puts adapters on (drawn from `seed`) and trains them and the plan's new parameters; new:
/// only the new ones; all: every weight, as float32 masters that forward casts to the compute
/// dtype, and the new ones. `new` where the plan adds none throws UsageError.
std::vector<Parameter> make_trainable(LoadedModel& loaded, const std::string& trainable,
                                      const LoraOptions& lora, uint64_t seed);

ParameterTable count_parameters(const LoadedModel& loaded, const std::vector<Parameter>& trained);
Json parameters_to_json(const ParameterTable& table);
std::string parameters_to_text(const ParameterTable& table);

/// Throws Error that lists every parameter the loss did not reach (no gradient after backward).
void check_gradients_reach(const std::vector<Parameter>& parameters);
/// Throws Error that lists every parameter holding NaN or infinity. `when` says where, e.g. "step
/// 12".
void check_finite(const std::vector<Parameter>& parameters, const std::string& when);

/// Copies values from a safetensors file, where each is stored under prefix + name as float32; a
/// missing tensor, another shape or dtype throws Error.
void restore_parameters(const std::filesystem::path& file, const std::string& prefix,
                        const std::vector<Parameter>& parameters);

}  // namespace tigon
