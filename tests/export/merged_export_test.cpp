#include "export/adapted_model.h"
#include "export/hf_folder.h"
#include "support/catch.h"
#include "support/file_size_limit.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/tolerance.h"
#include "support/trained_mixers.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

const Plan kLiger = load_plan("liger-gla", {"window_keys=5"});

void export_to(const fs::path& out, const LoadedModel& loaded, ExportOptions options = {}) {
  if (options.base_folder.empty()) options.base_folder = loaded.folder;
  export_merged(loaded, conversion_of(loaded), out, options);
}

LoadedModel reload(const fs::path& folder) {
  return load_any_model(folder, at::kFloat, test_device());
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

}  // namespace

TEST_CASE("a linearized folder has everything that the model needs elsewhere", "[merged_export]") {
  const TemporaryFolder root;
  const fs::path base = write_base(root);
  for (const char* name :
       {"base/tokenizer.model", "base/generation_config.json", "base/LICENSE.txt", "base/NOTICE",
        "base/USE_POLICY.md", "base/notes.txt"}) {
    root.write(name, name);
  }
  const LoadedModel loaded = load_with_plan(base, kLiger);
  ExportOptions options;
  options.results = {{"teacher", {{"nats_per_token", 3.1049}, {"perplexity", 22.307}}},
                     {"window_only", {{"nats_per_token", 3.2976}, {"recovered", 0.0}}}};
  export_to(root / "out", loaded, options);
  CHECK(names_in(root / "out") == std::vector<std::string>{"LICENSE.txt",
                                                           "NOTICE",
                                                           "README.md",
                                                           "USE_POLICY.md",
                                                           "config.json",
                                                           "configuration_tigon.py",
                                                           "conversion_report.json",
                                                           "generation_config.json",
                                                           "joint_tigon.py",
                                                           "liger_tigon.py",
                                                           "lolcats_tigon.py",
                                                           "memory_tigon.py",
                                                           "mixers_tigon.py",
                                                           "model.safetensors",
                                                           "modeling_tigon.py",
                                                           "rotary_tigon.py",
                                                           "scan_tigon.py",
                                                           "supra_tigon.py",
                                                           "tokenizer.model",
                                                           "tokenizer_config.json",
                                                           "window_tigon.py"});
  CHECK(read_text_file(root / "out/LICENSE.txt") == "base/LICENSE.txt");
  for (const std::string file :
       {"configuration_tigon.py", "joint_tigon.py", "liger_tigon.py", "lolcats_tigon.py",
        "memory_tigon.py", "mixers_tigon.py", "modeling_tigon.py", "rotary_tigon.py",
        "scan_tigon.py", "supra_tigon.py", "window_tigon.py"}) {
    CHECK(read_text_file(root / "out" / file) ==
          read_text_file(fs::path(TIGON_SOURCE_FOLDER "/src/export/python") / file));
  }
  const Json config = read_json_file(root / "out/config.json");
  CHECK(config["model_type"] == "tigon");
  CHECK(config["base_model_type"] == "llama");
  CHECK(config["architectures"] == Json::array({"TigonForCausalLM"}));
  CHECK(config["auto_map"]["AutoModelForCausalLM"] == "modeling_tigon.TigonForCausalLM");
  CHECK(plan_from_json(config["linearize"], "config") == kLiger);
  // The base's own keys are all kept.
  const Json base_config = read_json_file(base / "config.json");
  for (const auto& [key, value] : base_config.items()) {
    if (key != "model_type" && key != "architectures") CHECK(config[key] == value);
  }
  CHECK(read_json_file(root / "out/conversion_report.json")["parameters"]["new"] == 0);
  // transformers would tokenize otherwise than the base.
  CHECK(read_json_file(root / "out/tokenizer_config.json")["tokenizer_class"] == "LlamaTokenizer");

  const std::string card = read_text_file(root / "out/README.md");
  CHECK(card.find("trust_remote_code=True") != std::string::npos);
  CHECK(card.find("does not run in vLLM or llama.cpp") != std::string::npos);
  CHECK(card.find("| teacher | 3.1049 | 22.307 |  |") != std::string::npos);
  CHECK(card.find("| window only | 3.2976 |  | 0.0 % |") != std::string::npos);
  CHECK(card.find("layers 0-1") != std::string::npos);

  const LoadedModel again = reload(root / "out");
  CHECK(again.plan == kLiger);
  check_bitwise("logits", logits_of_tokens(again), logits_of_tokens(loaded));
}

TEST_CASE("every recipe's folder is read back as it was written", "[merged_export]") {
  const TemporaryFolder root;
  const fs::path base = write_base(root);
  for (const char* recipe :
       {"window-sinks", "liger-hgrn2", "liger-gsa", "liger-mamba2", "liger-mlstm",
        "liger-retention", "liger-rwkv6", "liger-ablation", "supra", "lolcats", "tigon"}) {
    INFO(recipe);
    const LoadedModel loaded = load_with_plan(base, load_plan(recipe, {"hybrid.layers=[0]"}));
    for (const auto& mixer : loaded.stack) perturb_parameters(*mixer, 3);
    export_to(root / recipe, loaded);
    const LoadedModel again = reload(root / recipe);
    CHECK(again.plan == loaded.plan);
    check_bitwise("logits", logits_of_tokens(again), logits_of_tokens(loaded));
  }
}

TEST_CASE("adapters are merged on the way out and stay in memory", "[merged_export]") {
  const TemporaryFolder root;
  LoadedModel loaded = load_with_plan(write_base(root), kLiger);
  const at::Tensor without = logits_of_tokens(loaded);
  add_random_adapter(loaded, 0.1);
  const at::Tensor expected = logits_of_tokens(loaded);
  REQUIRE(relative_rms(without, expected) > 0.05);
  export_to(root / "out", loaded);
  CHECK_FALSE(adapter_parameters(loaded.model.weights).empty());
  check_bitwise("unmerged model", logits_of_tokens(loaded), expected);
  check_close("merged", logits_of_tokens(reload(root / "out")), expected, kMergedFloat32);
}

TEST_CASE("large models are split into shards", "[merged_export]") {
  const TemporaryFolder root;
  LoadedModel loaded = load_with_plan(write_base(root), kLiger);
  export_to(root / "whole", loaded);
  export_to(root / "sharded", loaded, {.max_shard_bytes = 40'000});
  CHECK_FALSE(fs::exists(root / "sharded/model.safetensors"));
  const Json index = read_json_file(root / "sharded/model.safetensors.index.json");
  int64_t total = 0;
  visit_parameters(loaded.model.weights, [&](const std::string& name, at::Tensor& parameter) {
    CHECK(index["weight_map"].contains(name));
    total += 4 * parameter.numel();
  });
  CHECK(index["metadata"]["total_size"] == total);
  const Checkpoint whole(root / "whole"), sharded(root / "sharded");
  REQUIRE(whole.tensors().size() == sharded.tensors().size());
  for (const auto& [name, view] : whole.tensors()) {
    check_bitwise(name, to_tensor(sharded.at(name), at::kCPU), to_tensor(*view, at::kCPU));
  }
}

TEST_CASE("a plan without linearization exports a plain Llama folder", "[merged_export]") {
  const TemporaryFolder root;
  LoadedModel loaded = load_with_plan(write_base(root), Plan{});
  add_random_adapter(loaded, 0.1);
  export_to(root / "out", loaded);
  CHECK(names_in(root / "out") == std::vector<std::string>{"README.md", "config.json",
                                                           "conversion_report.json",
                                                           "model.safetensors"});
  const Json config = read_json_file(root / "out/config.json");
  CHECK(config == read_json_file(root / "base/config.json"));
  CHECK(reload(root / "out").plan.is_teacher());
}

TEST_CASE("weights keep the base's element type", "[merged_export]") {
  const TemporaryFolder root;
  const fs::path base = write_base(root, at::kBFloat16);
  const Checkpoint before(base);
  for (const at::ScalarType held : {at::kFloat, at::kBFloat16}) {
    const fs::path out = root / fmt::format("out-{}", dtype_name(to_dtype(held)));
    export_to(out, load_with_plan(base, kLiger, held));
    CHECK(read_model_config(out).dtype == "bfloat16");
    const Checkpoint after(out);
    for (const auto& [name, view] : before.tensors()) {
      check_bitwise(name, to_tensor(after.at(name), at::kCPU), to_tensor(*view, at::kCPU));
    }
  }
}

TEST_CASE("precision is never lost without a word", "[merged_export]") {
  const TemporaryFolder root;
  const LoadedModel rounded = load_with_plan(write_base(root), kLiger, at::kBFloat16);
  check_refused<Error>([&] { export_to(root / "out", rounded, {.dtype = "float32"}); },
                       "model.embed_tokens.weight: expected weights in memory as float32");
  check_refused<Error>([&] { export_to(root / "out", rounded, {.dtype = "int8"}); },
                       "expected float32, float16 or bfloat16, found \"int8\"");
  CHECK(root.names() == std::vector<std::string>{"base"});
  // Not asked for: written as it is held.
  export_to(root / "out", rounded);
  CHECK(Checkpoint(root / "out").at("model.norm.weight").dtype == DType::kBFloat16);
}

TEST_CASE("an export whose merged weights compute something else is refused", "[merged_export]") {
  const TemporaryFolder root;
  LoadedModel loaded = load_with_plan(write_base(root), kLiger);
  // Rounding W + B·A to bfloat16 loses what the small W says beside a huge update.
  add_random_adapter(loaded, 100);
  check_refused<Error>([&] { export_to(root / "out", loaded, {.dtype = "bfloat16"}); },
                       "export refused: the logits of the merged weights (written as bfloat16)");
  check_refused<Error>([&] { export_to(root / "out", loaded, {.dtype = "bfloat16"}); },
                       "expected at most 0.03");
  CHECK(root.names() == std::vector<std::string>{"base"});
}

TEST_CASE("an existing folder is not overwritten unless asked", "[merged_export]") {
  const TemporaryFolder root;
  const LoadedModel loaded = load_with_plan(write_base(root), kLiger);
  root.write("out/mine.txt", "mine");
  check_refused<Error>([&] { export_to(root / "out", loaded); }, "exists and is not empty");
  CHECK(names_in(root / "out") == std::vector<std::string>{"mine.txt"});
  export_to(root / "out", loaded, {.replace = true});
  CHECK_FALSE(fs::exists(root / "out/mine.txt"));
  CHECK(reload(root / "out").plan == kLiger);
  CHECK(root.names() == std::vector<std::string>{"base", "out"});
}

TEST_CASE("a full disk leaves nothing behind", "[merged_export]") {
  const TemporaryFolder root;
  const LoadedModel loaded = load_with_plan(write_base(root), kLiger);
  {
    const FileSizeLimit limit(50'000);
    check_refused<Error>([&] { export_to(root / "out", loaded); }, "model.safetensors");
  }
  CHECK(root.names() == std::vector<std::string>{"base"});
}

TEST_CASE("exported untrained students equal another implementation's logits",
          "[merged_export][golden]") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  TIGON_SHARED_OR_SKIP(expected, "golden/models/gutenberg-25m-converted.safetensors");
  const SafetensorsFile file(expected);
  const at::Tensor ids = golden(file, "ids").cpu().to(at::kLong);
  const std::vector<int64_t> tokens(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  const at::NoGradGuard no_grad;
  for (const auto& [recipe, name] : {std::pair("liger-gla", "liger_gla"),
                                     {"window", "window"},
                                     {"liger-hgrn2", "liger_hgrn2"}}) {
    const TemporaryFolder root;
    export_to(root / "out", load_with_plan(folder, load_plan(recipe)));
    const LoadedModel loaded = reload(root / "out");
    const Batch batch = make_batch({tokens}, test_device());
    const at::Tensor logits =
        logits_of(loaded.model, forward_hidden(loaded.model, loaded.stack, batch));
    check_close(recipe, logits, golden(file, name)[0], kFloat32Student);
  }
}
