// Model folders and texts that are not what they should be.
#include <fstream>

#include "apps/program.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

namespace fs = std::filesystem;

void check_eval_fails(const TinyFolders& tiny, const std::string& message) {
  check_fails({"eval", "--model", tiny.teacher(), "--text", tiny.text(), "--seq-len", "32"}, 1,
              message);
}

/// Writes the teacher's weights again, changed.
template <class Change>
void rewrite_weights(const TinyFolders& tiny, Change&& change) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  const Model model = random_model(tiny_text_config());
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    tensors.emplace_back(name, parameter);
  });
  change(tensors);
  save_tensors(tiny.teacher() / "model.safetensors", tensors);
}

}  // namespace

TEST_CASE("a folder that is not there, and a name of the hub") {
  const TinyFolders tiny;
  const std::string missing = tiny.folder / "missing";
  check_fails({"eval", "--model", missing, "--text", tiny.text()}, 1, missing);
  check_fails({"eval", "--model", "meta-llama/Llama-3.2-1B", "--text", tiny.text()}, 1,
              "hf download meta-llama/Llama-3.2-1B");
  check_fails({"generate", "--model", tiny.text()}, 1, "expected a model folder, found a file");
}

TEST_CASE("truncated and lying weight files") {
  const TinyFolders tiny;
  const fs::path weights = tiny.teacher() / "model.safetensors";
  const auto bytes = fs::file_size(weights);
  fs::resize_file(weights, bytes - 100);
  check_eval_fails(tiny, "model.safetensors");
  fs::resize_file(weights, 4);
  check_eval_fails(tiny, "truncated");
  std::ofstream(weights, std::ios::binary) << std::string(8, '\xff') << "{}";
  check_eval_fails(tiny, "not a safetensors file");
  fs::remove(weights);
  check_eval_fails(tiny, tiny.teacher().string());
}

TEST_CASE("missing, extra and misshapen tensors") {
  const TinyFolders tiny;
  rewrite_weights(tiny, [](auto& tensors) { tensors.emplace_back("extra", at::zeros({3})); });
  check_eval_fails(tiny, "extra");
  rewrite_weights(tiny, [](auto& tensors) { tensors.pop_back(); });
  check_eval_fails(tiny, "lm_head.weight");
  rewrite_weights(tiny, [](auto& tensors) { tensors.back().second = at::zeros({7, 48}); });
  check_eval_fails(tiny, "lm_head.weight");
}

TEST_CASE("impossible configs and unknown families") {
  const TinyFolders tiny;
  const fs::path path = tiny.teacher() / "config.json";
  const Json good = read_json_file(path);
  const auto with = [&](const std::string& key, const Json& value) {
    Json changed = good;
    changed[key] = value;
    write_json_file(path, changed);
  };
  with("num_attention_heads", -4);
  check_eval_fails(tiny, "num_attention_heads");
  with("num_key_value_heads", 3);
  check_eval_fails(tiny, "num_key_value_heads");
  with("model_type", "gpt2");
  check_eval_fails(tiny, "gpt2");
  tiny.folder.write("teacher/config.json", "{\"model_type\": ");
  check_eval_fails(tiny, "config.json");
}

TEST_CASE("tokenizers that are missing, broken or of another kind") {
  const TinyFolders tiny;
  const fs::path path = tiny.teacher() / "tokenizer.model";
  tiny.folder.write("teacher/tokenizer.model", "IQ== 0\nIg== 1\nIw== 2\n");
  check_eval_fails(tiny, "expected 128000 tokens (Llama 3");
  tiny.folder.write("teacher/tokenizer.model", "not a tokenizer");
  check_eval_fails(tiny, "tokenizer.model");
  fs::remove(path);
  check_eval_fails(tiny, "expected a tokenizer (tokenizer.model, tokenizer.json");
}

TEST_CASE("texts that are missing, empty, too short or of an unknown kind") {
  const TinyFolders tiny;
  const auto check_text = [&](const fs::path& text, const std::string& message) {
    check_fails({"eval", "--model", tiny.teacher(), "--text", text}, 1, message);
  };
  check_text(tiny.folder / "missing.txt", "missing.txt");
  check_text(tiny.folder.write("empty.txt", "\n\n"), "empty");
  check_text(tiny.folder.write("short.txt", "ba ti lo"), "1024");
  check_text(tiny.folder.write("broken.xz", "not xz"), "broken.xz");
  check_text(tiny.folder.write("text.pdf", "words"), "text.pdf");
}
