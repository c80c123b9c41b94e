
#include "linearize/convert.h"
#include "lora/adapter_folder.h"
#include "support/allocations.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

/// A model folder; with a plan, what a conversion would write.
fs::path write_folder(const TemporaryFolder& root, const std::string& name,
                      const Json& linearize = {}, uint64_t seed = 1) {
  const fs::path folder = root / name;
  fs::create_directory(folder);
  const Model model = tiny_model(seed);
  write_model_folder(model, folder);
  if (linearize.is_null()) return folder;
  Json config = read_json_file(folder / "config.json");
  config["model_type"] = "tigon";
  config["base_model_type"] = "llama";
  config["linearize"] = linearize;
  write_json_file(folder / "config.json", config);
  return folder;
}

const LoraOptions kLora = {.rank = 2, .alpha = 4, .targets = {"q_proj", "v_proj"}};

/// An adapter folder with values that matter; its linearize.json names `base` if there is a plan.
fs::path write_adapter_folder(const TemporaryFolder& root, const std::string& name,
                              const std::optional<Plan>& plan, const fs::path& base) {
  const fs::path folder = root / name;
  fs::create_directory(folder);
  Model model = tiny_model();
  add_adapters(model.weights, kLora, 1);
  {
    const at::NoGradGuard no_grad;
    uint64_t seed = 5;
    for (const auto& [parameter_name, tensor] : adapter_parameters(model.weights)) {
      at::Tensor(tensor).copy_(random_tensor(tensor.sizes(), seed++));
    }
  }
  write_adapter(folder, model.weights, kLora, base.string());
  if (plan) {
    write_adapter_plan(folder, {.plan = *plan, .base_fingerprint = checkpoint_fingerprint(base)});
  }
  return folder;
}

LoadedModel load(const fs::path& folder, const fs::path& adapter = {}) {
  return load_any_model(folder, at::kFloat, test_device(), adapter);
}

void check_load_refused(const fs::path& folder, const std::string& text,
                        const fs::path& adapter = {}) {
  check_refused<Error>([&] { load(folder, adapter); }, text);
}

bool has_adapter(const LoadedModel& loaded) {
  return !adapter_parameters(loaded.model.weights).empty();
}

}  // namespace

TEST_CASE("teacher and linearized folders load alike", "[load]") {
  const TemporaryFolder root;
  const LoadedModel teacher = load(write_folder(root, "teacher"));
  CHECK(teacher.plan.is_teacher());
  CHECK(teacher.stack.at(0)->kind() == "softmax");
  CHECK_FALSE(has_adapter(teacher));

  const Plan plan = load_plan("liger-gla", {"window_keys=5", "hybrid.layers=[1]"});
  const LoadedModel linearized = load(write_folder(root, "linearized", plan_to_json(plan)));
  CHECK(linearized.plan == plan);
  CHECK(linearized.model.config.model_type == "llama");
  CHECK(linearized.stack.at(0)->kind() == "liger-gla");
  CHECK(linearized.stack.at(1)->kind() == "softmax");
}

TEST_CASE("an adapter brings its mixers to the teacher or finds them in the folder", "[load]") {
  const TemporaryFolder root;
  const Plan plan = load_plan("liger-gla", {"window_keys=5"});
  const fs::path teacher = write_folder(root, "teacher");
  const fs::path linearized = write_folder(root, "linearized", plan_to_json(plan));
  const fs::path adapter = write_adapter_folder(root, "adapter", plan, teacher);
  // An untrained conversion is the same base: the fingerprint says so.
  CHECK(checkpoint_fingerprint(teacher) == checkpoint_fingerprint(linearized));
  for (const fs::path& base : {teacher, linearized}) {
    INFO(base);
    const LoadedModel loaded = load(base, adapter);
    CHECK(loaded.plan == plan);
    CHECK(loaded.stack.at(1)->kind() == "liger-gla");
    CHECK(has_adapter(loaded));
  }
}

TEST_CASE("a plain peft adapter works on a teacher", "[load]") {
  const TemporaryFolder root;
  const fs::path teacher = write_folder(root, "teacher");
  const LoadedModel loaded =
      load(teacher, write_adapter_folder(root, "adapter", std::nullopt, teacher));
  CHECK(loaded.plan.is_teacher());
  CHECK(has_adapter(loaded));
}

TEST_CASE("an adapter that does not fit is refused", "[load]") {
  const TemporaryFolder root;
  const Plan plan = load_plan("window", {"window_keys=5"});
  const fs::path teacher = write_folder(root, "teacher");
  const fs::path adapter = write_adapter_folder(root, "adapter", plan, teacher);
  const fs::path other = write_folder(root, "other", {}, /*seed=*/2);
  check_load_refused(other, "trained on other weights", adapter);
  check_load_refused(other, checkpoint_fingerprint(teacher), adapter);
  check_load_refused(other, checkpoint_fingerprint(other), adapter);
  const Plan wider = load_plan("window", {"window_keys=6"});
  const fs::path converted = write_folder(root, "converted", plan_to_json(wider));
  check_load_refused(converted, "\"window_keys\":5", adapter);
  check_load_refused(converted, "\"window_keys\":6", adapter);

  write_json_file(adapter / "linearize.json", {{"linearize", plan_to_json(plan)}});
  check_load_refused(teacher, "linearize.json: expected an object with", adapter);
  write_adapter_plan(adapter, {load_plan("window", {"hybrid.layers=[7]"}), ""});
  check_load_refused(teacher, "expected layers below 2, found 7", adapter);
}

TEST_CASE("new_parameters.safetensors holds parameters of mixers only", "[load]") {
  const TemporaryFolder root;
  const fs::path teacher = write_folder(root, "teacher");
  const fs::path adapter = write_adapter_folder(root, "adapter", load_plan("window"), teacher);
  const fs::path path = adapter / "new_parameters.safetensors";
  save_tensors(path, {{"model.norm.weight", random_tensor({48}, 1)}});
  check_load_refused(teacher, "expected parameters of mixers, found model.norm.weight", adapter);
  save_tensors(path, {{"model.layers.0.self_attn.mixer.gate", random_tensor({4}, 1)}});
  check_load_refused(teacher, "no mixer has this parameter", adapter);
}

TEST_CASE("broken linearize blocks are refused", "[load]") {
  const TemporaryFolder root;
  const Json good = plan_to_json(load_plan("liger-gla"));
  int count = 0;
  const auto refused = [&](const Json& block, const std::string& text) {
    check_load_refused(write_folder(root, fmt::format("broken-{}", count++), block), text);
  };
  refused("liger-gla", "linearize");
  refused(Json::object(), "recipe");
  Json block = good;
  block["recipe"] = "linger";
  refused(block, "expected a recipe");
  block = good;
  block["window_keys"] = 0;
  refused(block, "window_keys");
  block = good;
  block["surprise"] = 1;
  refused(block, "surprise");
  block = good;
  block["hybrid"]["layers"] = {5};
  refused(block, "expected layers below 2, found 5");
}

TEST_CASE("a linearized folder with parameters its recipe does not have is refused", "[load]") {
  const TemporaryFolder root;
  const fs::path folder = write_folder(root, "extra", plan_to_json(load_plan("window")));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  Model model = tiny_model();
  visit_parameters(model.weights, [&](const std::string& name, at::Tensor& parameter) {
    tensors.emplace_back(name, parameter);
  });
  tensors.emplace_back("model.layers.0.self_attn.mixer.gate", random_tensor({4}, 1));
  save_tensors(folder / "model.safetensors", tensors);
  check_load_refused(folder, "model.layers.0.self_attn.mixer.gate: no mixer has this parameter");
}

TEST_CASE("a streamed folder gives the whole model's logits and holds one layer at a time",
          "[load]") {
  const at::NoGradGuard no_grad;
  const TemporaryFolder root;
  const Plan plan = load_plan("liger-gla", {"window_keys=8"});
  const fs::path folder = write_folder(root, "student", plan_to_json(plan));
  constexpr int64_t kLayers = 24;
  write_model_folder(random_model(tiny_config(kLayers)), root.path());
  const Batch batch =
      make_batch({random_tokens(40, 97, 3), random_tokens(9, 97, 4)}, test_device());
  for (const fs::path& path : {folder, root.path()}) {
    const LoadedModel whole = load_any_model(path, at::kFloat, test_device());
    const at::Tensor expected =
        logits_of(whole.model, forward_hidden(whole.model, whole.stack, batch));
    check_bitwise("logits", streamed_logits(path, at::kFloat, batch), expected);
  }
  const int64_t weight_bytes = static_cast<int64_t>(fs::file_size(root / "model.safetensors"));
  const AllocationRecorder allocations;
  streamed_logits(root.path(), at::kFloat, batch);
  CHECK(allocations.peak() < weight_bytes / 3);
}

TEST_CASE("a name that is no folder is answered with what to do", "[load]") {
  const TemporaryFolder root;
  check_load_refused("meta-llama/Llama-3.2-1B",
                     "hf download meta-llama/Llama-3.2-1B --local-dir Llama-3.2-1B");
  check_load_refused(root / "nothing", "there is no such folder");
  check_load_refused("./owner/name", "./owner/name: there is no such folder");
  check_load_refused(root.write("file", ""), "expected a model folder, found a file");
  const fs::path teacher = write_folder(root, "teacher");
  const fs::path adapter = write_adapter_folder(root, "adapter", std::nullopt, teacher);
  check_load_refused(adapter, "found an adapter folder: pass its base as --model");
}

TEST_CASE("the fingerprint sees weights, shapes and config", "[load]") {
  const TemporaryFolder root;
  const fs::path folder = write_folder(root, "a");
  const std::string fingerprint = checkpoint_fingerprint(folder);
  CHECK(fingerprint == checkpoint_fingerprint(write_folder(root, "b")));
  CHECK(fingerprint != checkpoint_fingerprint(write_folder(root, "c", {}, /*seed=*/2)));
  Json config = read_json_file(folder / "config.json");
  config["rms_norm_eps"] = 0.5;
  write_json_file(folder / "config.json", config);
  CHECK(fingerprint != checkpoint_fingerprint(folder));
}
