#include "export/weights_writer.h"

#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "linearize/mixer_parameters.h"
#include "lora/lora.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

struct OutgoingTensor {
  at::Tensor tensor;
  const Linear* adapted = nullptr;  // the layer whose adapter is merged into it
  TensorSpec spec;
  int64_t bytes() const { return tensor.numel() * static_cast<int64_t>(dtype_bytes(spec.dtype)); }
};

/// All tensors of the folder in the order they are written.
std::vector<OutgoingTensor> outgoing_tensors(const Model& model, const MixerStack& stack,
                                             DType dtype) {
  std::map<std::string, const Linear*> adapted;
  visit_linears(model.weights, [&](const std::string& name, const Linear& linear) {
    if (linear.adapter) adapted[name + ".weight"] = &linear;
  });
  std::vector<OutgoingTensor> tensors;
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    const DType held = to_dtype(parameter.scalar_type());
    if (held != DType::kFloat32 && held != dtype) {
      fail(
          "{}: expected weights in memory as float32 or {}, found {}: writing them would lose "
          "precision without a word (use --dtype float32)",
          name, dtype_name(dtype), dtype_name(held));
    }
    const auto found = adapted.find(name);
    tensors.push_back({parameter, found == adapted.end() ? nullptr : found->second,
                       TensorSpec{name, dtype, parameter.sizes().vec()}});
  });
  for (const auto& [name, parameter] : mixer_parameters(stack)) {
    tensors.push_back(
        {parameter, nullptr,
         TensorSpec{name, to_dtype(parameter.scalar_type()), parameter.sizes().vec()}});
  }
  return tensors;
}

/// Neighbouring tensors as long as they fit; a tensor larger than a shard gets one of its own.
std::vector<std::vector<OutgoingTensor>> split_into_shards(std::vector<OutgoingTensor> tensors,
                                                           int64_t max_bytes) {
  std::vector<std::vector<OutgoingTensor>> shards;
  int64_t used = 0;
  for (OutgoingTensor& tensor : tensors) {
    const int64_t bytes = tensor.bytes();
    if (shards.empty() || used + bytes > max_bytes) {
      shards.emplace_back();
      used = 0;
    }
    used += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

void write_shard(const std::filesystem::path& path, const std::vector<OutgoingTensor>& tensors) {
  std::vector<TensorSpec> specs;
  std::map<std::string, const OutgoingTensor*> by_name;
  for (const OutgoingTensor& tensor : tensors) {
    specs.push_back(tensor.spec);
    by_name[tensor.spec.name] = &tensor;
  }
  at::Tensor held;
  const auto data = [&](const std::string& name) {
    const OutgoingTensor& outgoing = *by_name.at(name);
    const at::Tensor value = outgoing.adapted ? merged_weight(*outgoing.adapted) : outgoing.tensor;
    held = value.detach().to(to_scalar_type(outgoing.spec.dtype)).cpu().contiguous();
    return view_of(held);
  };
  write_safetensors(path, specs, data, {{"format", "pt"}});
}

}  // namespace

void write_merged_weights(const std::filesystem::path& folder, const Model& model,
                          const MixerStack& stack, DType dtype, int64_t max_shard_bytes) {
  at::NoGradGuard no_grad;
  const auto shards = split_into_shards(outgoing_tensors(model, stack, dtype), max_shard_bytes);
  if (shards.size() == 1) {
    write_shard(folder / "model.safetensors", shards.front());
    return;
  }
  int64_t total = 0;
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_shard(folder / file, shards[i]);
    for (const OutgoingTensor& tensor : shards[i]) {
      weight_map[tensor.spec.name] = file;
      total += tensor.bytes();
    }
  }
  write_json_file(folder / "model.safetensors.index.json",
                  {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}});
}

}  // namespace tigon
