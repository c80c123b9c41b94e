// The parameters that mixers add to a model, under their full names in files.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "model/mixer.h"

namespace tigon {

/// Every parameter of a stack's mixers by its full name, "model.layers.0.self_attn.mixer.NAME".
std::vector<std::pair<std::string, at::Tensor>> mixer_parameters(const MixerStack& stack);

/// Whether a checkpoint's name belongs to a mixer.
bool is_mixer_parameter(const std::string& name);

/// Fills the stack's parameters from the mixer tensors of a file; other names are left alone.
/// Missing tensors, tensors the stack has no use for and wrong shapes throw Error, all in one
/// message.
void load_mixer_parameters(const MixerStack& stack,
                           const std::map<std::string, const TensorView*>& tensors,
                           const std::string& source_name);

}  // namespace tigon
