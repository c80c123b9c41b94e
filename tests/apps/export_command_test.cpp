#include <fstream>

#include "apps/program.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

/// A finished run on the tiny folders; returns its folder.
fs::path train(const TinyFolders& folders, const std::string& trainable) {
  const fs::path run = folders.folder / "run", config = folders.folder / "run.yaml";
  std::ofstream(config) << fmt::format(R"(
model: {{path: "{0}"}}
linearize: {{recipe: liger-gla, window_keys: 8}}
data: {{train: ["{1}"], validation: ["{1}"], seq_len: 32, cache: "{2}/cache"}}
train:
  trainable: {3}
  steps: 4
  batch_rows: 2
  optimizer: {{lr: 1e-2}}
  validate_every: 2
  validation_rows: 2
eval: {{rows: 2}}
run: {{folder: "{2}/run"}}
device: cpu
threads: 1
)",
                                       folders.teacher().string(), folders.text().string(),
                                       folders.folder.path().string(), trainable);
  const ChildResult result = tigon_program({"train", config});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  return run;
}

at::Tensor logits(const fs::path& folder, const std::vector<std::string>& model) {
  const at::Tensor ids = at::arange(3, 53).view({1, 50});
  save_tensors(folder / "ids.safetensors", {{"ids", ids}});
  std::vector<std::string> arguments = {"logits",
                                        "--ids",
                                        folder / "ids.safetensors",
                                        "--out",
                                        folder / "logits.safetensors",
                                        "--device",
                                        "cpu",
                                        "--dtype",
                                        "float32"};
  arguments.insert(arguments.end(), model.begin(), model.end());
  const ChildResult result = tigon_program(arguments);
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  return to_tensor(SafetensorsFile(folder / "logits.safetensors").at("logits"), at::kCPU);
}

std::vector<std::string> export_run(const fs::path& run, const fs::path& out) {
  return {"export", "--run", run, "--out", out, "--device", "cpu"};
}

}  // namespace

TEST_CASE("export merges the best checkpoint of a run", "[export_command]") {
  const TinyFolders folders;
  const fs::path& root = folders.folder.path();
  const fs::path run = train(folders, "lora");
  const at::Tensor trained =
      logits(root, {"--model", folders.teacher(), "--adapter", run / "checkpoints/best"});
  const at::Tensor teacher = logits(root, {"--model", folders.teacher()});
  CHECK(relative_rms(teacher, trained) > 0.01);

  CHECK(tigon_program(export_run(run, root / "merged")).exit_code == 0);
  check_close("merged", logits(root, {"--model", root / "merged"}), trained, kMergedFloat32);
  const std::string card = read_text_file(root / "merged/README.md");
  CHECK(card.find("| trained |") != std::string::npos);

  std::vector<std::string> adapter_only = export_run(run, root / "adapter");
  adapter_only.push_back("--adapter-only");
  CHECK(tigon_program(adapter_only).exit_code == 0);
  check_bitwise("adapter",
                logits(root, {"--model", folders.teacher(), "--adapter", root / "adapter"}),
                trained);
  CHECK(tigon_json({"inspect", root / "adapter"})["recipe"] == "liger-gla");
  check_fails(export_run(run, root / "merged"), 1, "exists and is not empty");
}

TEST_CASE("export takes runs that trained all weights", "[export_command]") {
  const TinyFolders folders;
  const fs::path& root = folders.folder.path();
  const fs::path run = train(folders, "all");
  CHECK(tigon_program(export_run(run, root / "merged")).exit_code == 0);
  check_bitwise("merged", logits(root, {"--model", root / "merged"}),
                logits(root, {"--model", run / "checkpoints/best"}));
  std::vector<std::string> adapter_only = export_run(run, root / "adapter");
  adapter_only.push_back("--adapter-only");
  check_fails(adapter_only, 1, "expected a run that trained an adapter");
}

TEST_CASE("export refuses what is no finished run", "[export_command]") {
  const TinyFolders folders;
  const fs::path& root = folders.folder.path();
  check_fails(export_run(root, root / "out"), 1, "expected a run folder with config.yaml");
  const fs::path run = train(folders, "lora");
  fs::remove_all(run / "checkpoints");
  check_fails(export_run(run, root / "out"), 1, "expected checkpoints/best or checkpoints/last");
}
