#include "train/tiny_run.h"

#include <fmt/format.h>

#include <fstream>
#include <regex>

#include "core/log.h"
#include "io/atomic_file.h"
#include "support/compare.h"
#include "train/metrics.h"

namespace tigon::testing {
namespace {

constexpr int kVocabulary = 300;

void write_corpus(const std::filesystem::path& file, int num_documents, uint64_t seed) {
  std::string text;
  for (int i = 0; i < num_documents; ++i) {
    // Short and long ones: micro-batches then differ in their number of predictions.
    if (i > 0) text += std::string("\n") + '\0' + "\n";
    text += tiny_text(i % 3 == 0 ? 120 : 12, seed + static_cast<uint64_t>(i));
  }
  write_file_atomically(file, text);
}

constexpr const char* kConfig = R"(# A test's run.
model: {{path: "{0}/base"}}
linearize: {{recipe: liger-gla, window_keys: 8}}
lora: {{rank: 4, alpha: 8, dropout: 0.1, targets: [q_proj, v_proj]}}
data:
  train: ["{0}/train.txt"]
  validation: ["{0}/validation.txt"]
  seq_len: 32
  borders: documents
  cache: "{0}/cache"
train:
  steps: 12
  batch_rows: 2
  accumulate: 2
  optimizer: {{lr: 3e-3}}
  schedule: {{kind: cosine, warmup_steps: 2}}
  validate_every: 4
  validation_rows: 4
eval: {{rows: 4}}
run: {{folder: "{0}/run"}}
device: {1}
dtype: float32
threads: 1
seed: 7
)";

}  // namespace

TinyRun::TinyRun() {
  set_up_logging(-1);
  const std::filesystem::path base = folder_ / "base";
  std::filesystem::create_directory(base);
  ModelConfig model = tiny_config(2);
  model.vocab_size = kVocabulary;
  model.raw = llama_config_json(model);
  write_model_folder(testing::random_model(model), base);
  TinyTokenizerOptions tokenizer;
  tokenizer.vocab_size = kVocabulary;
  write_file_atomically(base / "tokenizer.model", train_tiny_tokenizer(tokenizer));
  write_corpus(folder_ / "train.txt", 30, 100);
  write_corpus(folder_ / "validation.txt", 9, 500);
  write_file_atomically(config_file(),
                        fmt::format(kConfig, folder_.path().string(), test_device().str()));
}

RunConfig TinyRun::config(const std::vector<std::string>& overrides) const {
  return read_run_config(config_file(), overrides);
}

std::vector<std::string> TinyRun::random_model(const TinyRun& run) {
  const std::string tokenizer = (run.folder() / "base" / "tokenizer.model").string();
  return {
      "model={init: random, vocab_size: 300, hidden_size: 48, intermediate_size: 80, "
      "num_layers: 2, num_heads: 4, num_kv_heads: 2, head_dim: 16, tie_word_embeddings: true, "
      "tokenizer: " +
          tokenizer + "}",
      "linearize=null", "lora=null", "train.trainable=all"};
}

std::vector<double> step_losses(const std::filesystem::path& folder) {
  std::vector<double> losses;
  for (const Json& line : read_metrics(folder / "metrics.jsonl")) {
    if (line.contains("loss")) losses.push_back(line.at("loss").get<double>());
  }
  return losses;
}

std::vector<std::string> lines_without_timing(const std::filesystem::path& metrics_file) {
  static const std::regex kTiming(R"("tokens_per_s":[^,}]*,?)");
  std::ifstream file(metrics_file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(std::regex_replace(line, kTiming, ""));
  }
  return lines;
}

}  // namespace tigon::testing
