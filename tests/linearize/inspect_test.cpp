#include "linearize/inspect.h"

#include <map>

#include "linearize/convert.h"
#include "lora/adapter_folder.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

// tiny_config: embeddings and head 2·97·48; a layer has q, o 2·64·48, k, v 2·32·48, mlp 3·80·48,
// norms 2·48; a last norm 48.
constexpr int64_t kTinyParameters =
    2 * 97 * 48 + 2 * (2 * 64 * 48 + 2 * 32 * 48 + 3 * 80 * 48 + 2 * 48) + 48;

void linearize_folder(const std::filesystem::path& folder, const Plan& plan) {
  Json config = read_json_file(folder / "config.json");
  config["model_type"] = "tigon";
  config["base_model_type"] = "llama";
  config["linearize"] = plan_to_json(plan);
  write_json_file(folder / "config.json", config);
}

}  // namespace

TEST_CASE("inspect tells what a teacher's folder holds", "[inspect]") {
  const TemporaryFolder folder;
  write_model_folder(tiny_model(), folder.path());
  const FolderSummary summary = inspect_folder(folder.path());
  CHECK(summary.kind == "teacher");
  CHECK(summary.family == "llama");
  CHECK(summary.recipe == "none");
  REQUIRE(summary.layers.size() == 2);
  CHECK(summary.layers[0].starts_with("softmax"));
  CHECK(summary.base_parameters == kTinyParameters);
  CHECK(summary.new_parameters == 0);
  CHECK(summary.lora_parameters == 0);
  CHECK(summary.weight_bytes == 4 * kTinyParameters);
  // A KV cache: 2 layers, k and v, 2 heads of 16 in float32 for every token.
  CHECK(summary.state.front().tokens == 1024);
  CHECK(summary.state.back().tokens == 1024 * 1024);
  for (const StateSize& size : summary.state) {
    CHECK(size.bytes >= size.tokens * 2 * 2 * 2 * 16 * 4);
    CHECK(size.bytes == size.teacher_bytes);
  }
}

TEST_CASE("inspect shows that a linearized model's memory does not grow", "[inspect]") {
  const TemporaryFolder folder;
  write_model_folder(tiny_model(), folder.path());
  linearize_folder(folder.path(), load_plan("liger-gla", {"window_keys=8"}));
  const FolderSummary summary = inspect_folder(folder.path());
  CHECK(summary.kind == "linearized");
  CHECK(summary.family == "llama");
  CHECK(summary.recipe == "liger-gla");
  CHECK(summary.layers[1].starts_with("liger-gla"));
  CHECK(summary.state.back().bytes == summary.state.front().bytes);
  // Per layer at least 2 float32 matrices of 16×16 and a ring of 8 keys and values.
  CHECK(summary.state.back().bytes >= 2 * (2 * 16 * 16 * 4 + 2 * 8 * 2 * 16 * 4));
  CHECK(summary.state.back().teacher_bytes > 100 * summary.state.back().bytes);
  const Json json = summary_to_json(summary);
  CHECK(json["parameters"]["base"] == kTinyParameters);
  CHECK(json["state_per_sequence"].back()["bytes"] == summary.state.back().bytes);
  const std::string text = summary_to_text(summary);
  CHECK(text.find("linearized folder, family llama, recipe liger-gla") != std::string::npos);
  CHECK(text.find("layers 0-1") != std::string::npos);
}

TEST_CASE("inspect reads adapter folders with and without their base", "[inspect]") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "base");
  std::filesystem::create_directory(folder / "adapter");
  Model model = tiny_model();
  write_model_folder(model, folder / "base");
  const LoraOptions lora{.rank = 2, .alpha = 2, .targets = {"q_proj"}};
  add_adapters(model.weights, lora, 1);
  write_adapter(folder / "adapter", model.weights, lora, (folder / "base").string());
  write_adapter_plan(folder / "adapter", {load_plan("window"), ""});
  const FolderSummary summary = inspect_folder(folder / "adapter");
  CHECK(summary.kind == "adapter");
  CHECK(summary.recipe == "window");
  CHECK(summary.base == (folder / "base").string());
  CHECK(summary.lora_parameters == 2 * 2 * (48 + 64));
  CHECK(summary.base_parameters == kTinyParameters);
  CHECK(summary.weight_bytes == 4 * summary.lora_parameters);
  CHECK(summary.layers.at(0).starts_with("window"));

  std::filesystem::remove_all(folder / "base");
  const FolderSummary alone = inspect_folder(folder / "adapter");
  CHECK(alone.recipe == "window");
  CHECK(alone.layers.empty());
  CHECK(alone.base_parameters == 0);
  CHECK(alone.lora_parameters == summary.lora_parameters);
  CHECK(summary_to_text(alone).find("not here") != std::string::npos);
}

TEST_CASE("inspect refuses what is no model folder", "[inspect]") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { inspect_folder(folder.path()); }, "config.json");
  check_refused<Error>([&] { inspect_folder(folder / "nothing"); }, "there is no such folder");
}

TEST_CASE("inspect of a folder without weights counts what config.json calls for", "[inspect]") {
  const TemporaryFolder folder;
  write_model_folder(tiny_model(), folder.path());
  std::filesystem::remove(folder / "model.safetensors");
  const FolderSummary summary = inspect_folder(folder.path());
  CHECK_FALSE(summary.has_weights);
  CHECK(summary.base_parameters == kTinyParameters);
  CHECK(summary.weight_bytes == 0);
  CHECK(summary_to_text(summary).find("no weights in this folder") != std::string::npos);
}

TEST_CASE("inspect prints every published config", "[inspect]") {
  TIGON_SHARED_OR_SKIP(configs, "configs");
  // Parameters in billions, as their model cards have them.
  const std::map<std::string, double> billions = {{"Llama-2-7b-hf", 6.74},
                                                  {"Llama-3.1-8B", 8.03},
                                                  {"Llama-3.1-8B-Instruct", 8.03},
                                                  {"Llama-3.2-1B", 1.24},
                                                  {"Meta-Llama-3-8B", 8.03},
                                                  {"Mistral-7B-v0.1", 7.24},
                                                  {"Mistral-7B-Instruct-v0.3", 7.25},
                                                  {"Qwen2-1.5B-Instruct", 1.54},
                                                  {"Qwen2.5-7B-Instruct", 7.62},
                                                  {"Qwen3-8B", 8.19}};
  for (const auto& entry : std::filesystem::directory_iterator(configs)) {
    const std::string name = entry.path().filename();
    INFO(name);
    const FolderSummary summary = inspect_folder(entry.path());
    CHECK(static_cast<double>(summary.base_parameters) / 1e9 ==
          Approx(billions.at(name)).epsilon(0.005));
    CHECK_FALSE(summary.layers.empty());
  }
}
