#include "lora/adapter_folder.h"

#include <ATen/ATen.h>

#include <fstream>

#include "io/safetensors.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const LoraOptions kOptions = {
    .rank = 3, .alpha = 6, .dropout = 0.25, .targets = {"q_proj", "down_proj"}};

Model adapted_model() {
  Model model = tiny_model();
  add_adapters(model.weights, kOptions, 1);
  const at::NoGradGuard no_gradient;
  uint64_t seed = 20;
  for (const auto& [name, tensor] : adapter_parameters(model.weights)) {
    at::Tensor(tensor).copy_(random_tensor(tensor.sizes(), seed++));
  }
  return model;
}

// A good folder with one key of its adapter_config.json changed; a null value of `remove` removes
// it.
void check_config_refused(const std::string& key, const Json& value, const std::string& text) {
  const TemporaryFolder folder;
  write_adapter(folder.path(), adapted_model().weights, kOptions, "base");
  Json config = read_json_file(folder / "adapter_config.json");
  config[key] = value;
  write_json_file(folder / "adapter_config.json", config);
  Model model = tiny_model();
  check_refused([&] { load_adapter(folder.path(), model.weights); },
                "adapter_config.json: " + text);
  CHECK(adapter_parameters(model.weights).empty());
}

// A good folder with its tensors changed.
void check_tensors_refused(
    const std::function<void(std::vector<std::pair<std::string, at::Tensor>>&)>& change,
    const std::string& text) {
  const TemporaryFolder folder;
  write_adapter(folder.path(), adapted_model().weights, kOptions, "base");
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  {
    const SafetensorsFile file(folder / "adapter_model.safetensors");
    for (const auto& [name, view] : file.tensors())
      tensors.emplace_back(name, to_tensor(view, at::kCPU));
  }
  change(tensors);
  save_tensors(folder / "adapter_model.safetensors", tensors);
  Model model = tiny_model();
  check_refused([&] { load_adapter(folder.path(), model.weights); }, "adapter_model.safetensors");
  check_refused([&] { load_adapter(folder.path(), model.weights); }, text);
  CHECK(adapter_parameters(model.weights).empty());
}

}  // namespace

TEST_CASE("an adapter folder comes back as it was written", "[adapter_folder]") {
  const TemporaryFolder folder;
  const Model model = adapted_model();
  write_adapter(folder.path(), model.weights, kOptions, "some/base");
  Model other = tiny_model();
  const LoraOptions options = load_adapter(folder.path(), other.weights);
  CHECK(options.rank == kOptions.rank);
  CHECK(options.alpha == kOptions.alpha);
  CHECK(options.dropout == kOptions.dropout);
  CHECK(options.targets == kOptions.targets);
  const auto written = adapter_parameters(model.weights), found = adapter_parameters(other.weights);
  REQUIRE(found.size() == written.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].first == written[i].first);
    CHECK(found[i].second.requires_grad());
    check_bitwise(found[i].first, found[i].second, written[i].second);
  }
  CHECK(other.weights.layers[0].q_proj.adapter->scale == 2);
  CHECK(other.weights.layers[0].q_proj.adapter->dropout == 0.25);
}

TEST_CASE("an adapter folder has peft's names and fields", "[adapter_folder]") {
  const TemporaryFolder folder;
  write_adapter(folder.path(), adapted_model().weights, kOptions, "some/base");
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.tensors().size() == 8);
  const TensorView& a = file.at("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  CHECK(a.dtype == DType::kFloat32);
  CHECK(a.shape == std::vector<int64_t>{3, 48});
  CHECK(file.at("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight").shape ==
        std::vector<int64_t>{48, 3});
  const Json config = read_json_file(folder / "adapter_config.json");
  CHECK(config["peft_type"] == "LORA");
  CHECK(config["task_type"] == "CAUSAL_LM");
  CHECK(config["bias"] == "none");
  CHECK(config["r"] == 3);
  CHECK(config["lora_alpha"].dump() == "6");  // peft's field is a whole number
  CHECK(config["lora_dropout"] == 0.25);
  CHECK(config["target_modules"] == Json({"q_proj", "down_proj"}));
  CHECK(config["base_model_name_or_path"] == "some/base");
  write_adapter(folder.path(), adapted_model().weights, kOptions, "");
  CHECK(read_json_file(folder / "adapter_config.json")["base_model_name_or_path"].is_null());
}

TEST_CASE("a bfloat16 adapter is widened", "[adapter_folder]") {
  const TemporaryFolder folder;
  const Model model = adapted_model();
  write_adapter(folder.path(), model.weights, kOptions, "base");
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, tensor] : adapter_parameters(model.weights)) {
    tensors.emplace_back("base_model.model." + name, tensor.detach().to(at::kBFloat16));
  }
  save_tensors(folder / "adapter_model.safetensors", tensors);
  Model other = tiny_model();
  load_adapter(folder.path(), other.weights);
  check_bitwise("A", other.weights.layers[0].q_proj.adapter->a, tensors[0].second.to(at::kFloat));
}

TEST_CASE("load_adapter refuses what changes the mathematics", "[adapter_folder]") {
  const std::string off = "expected an option that is off, as tigon does not support it, found ";
  check_config_refused("use_rslora", true, "use_rslora: " + off + "true");
  check_config_refused("use_dora", true, "use_dora: " + off + "true");
  check_config_refused("fan_in_fan_out", true, "fan_in_fan_out: " + off + "true");
  check_config_refused("modules_to_save", {"lm_head"},
                       "modules_to_save: " + off + R"(["lm_head"])");
  check_config_refused("layers_to_transform", {0}, "layers_to_transform: " + off + "[0]");
  check_config_refused("rank_pattern", {{"q_proj", 2}}, "rank_pattern: " + off + R"({"q_proj":2})");
  check_config_refused("alpha_pattern", {{"q_proj", 2}}, "alpha_pattern: " + off);
  check_config_refused("exclude_modules", "v_proj", "exclude_modules: " + off + R"("v_proj")");
  check_config_refused("an_option_of_tomorrow", 0.5, "an_option_of_tomorrow: " + off + "0.5");
  check_config_refused("bias", "all", R"(bias: expected "none", found "all")");
  check_config_refused("peft_type", "IA3", R"(peft_type: expected "LORA", found "IA3")");
  check_config_refused("task_type", "SEQ_CLS",
                       R"(task_type: expected "CAUSAL_LM", found "SEQ_CLS")");
  check_config_refused("init_lora_weights", "pissa", "init_lora_weights: expected one that leaves");
}

TEST_CASE("load_adapter refuses impossible values", "[adapter_folder]") {
  check_config_refused("peft_type", nullptr, "peft_type: expected");
  check_config_refused("r", 0, "r: expected");
  check_config_refused("r", 2.5, "r: expected");
  check_config_refused("r", nullptr, "r: expected");
  check_config_refused("lora_alpha", -1, "lora_alpha: expected");
  check_config_refused("lora_alpha", "8", "lora_alpha: expected");
  check_config_refused("lora_dropout", 1,
                       "lora_dropout: expected a number from 0 to below 1, found 1");
  check_config_refused("target_modules", nullptr,
                       "target_modules: expected a list of module names");
  check_config_refused("target_modules", ".*_proj",
                       R"(target_modules: expected a list of module names (a pattern is not )"
                       R"(supported), found ".*_proj")");
  check_config_refused("target_modules", Json::array(), "target_modules: expected a list");
  check_config_refused("target_modules", {"q_proj", 3}, "target_modules: expected a list");
  check_config_refused("target_modules", {"query"}, "target_modules: ");
  const TemporaryFolder folder;
  Model model = tiny_model();
  check_refused([&] { load_adapter(folder.path(), model.weights); }, "adapter_config.json");
  write_json_file(folder / "adapter_config.json", Json::array());
  check_refused([&] { load_adapter(folder.path(), model.weights); }, "adapter_config.json");
  write_adapter(folder.path(), adapted_model().weights, kOptions, "base");
  std::filesystem::remove(folder / "adapter_model.safetensors");
  check_refused([&] { load_adapter(folder.path(), model.weights); }, "adapter_model.safetensors");
}

TEST_CASE("load_adapter refuses tensors that do not fit", "[adapter_folder]") {
  const std::string name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";
  check_tensors_refused([](auto& tensors) { tensors.erase(tensors.begin()); }, name + ": missing");
  check_tensors_refused(
      [](auto& tensors) {
        tensors[0].second = at::zeros({4, 80});
      },
      name + ": expected shape [3, 80], found [4, 80]");
  check_tensors_refused(
      [](auto& tensors) {
        tensors.emplace_back("base_model.model.lm_head.weight", at::zeros({1}));
      },
      "base_model.model.lm_head.weight: nothing uses it");
}
