#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/error.h"
#include "data/bpe/tiktoken_tokenizer.h"
#include "data/bpe/tokenizer_json.h"
#include "data/bpe/vocabulary_merges.h"
#include "data/llama2c_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "io/json_file.h"
#include "io/mapped_file.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// What lies beside a sentencepiece tokenizer.model in a Hugging Face folder and goes where it
/// goes.
constexpr std::array kCompanions = {"tokenizer_config.json", "special_tokens_map.json",
                                    "added_tokens.json", "tokenizer.json", "chat_template.jinja"};

/// As much of a file as tells its kind.
std::string beginning_of(const fs::path& file) {
  constexpr size_t kBytes = 2000;
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes().first(std::min(mapped.bytes().size(), kBytes));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::unique_ptr<Tokenizer> load_llama2c(const fs::path& file) {
  const std::string name = file.string();
  return load_sentencepiece_model(sentencepiece_model_of_llama2c(read_text_file(file), name), name,
                                  {file});
}

/// `folder`: where the file's companions lie; none if it was given alone.
std::unique_ptr<Tokenizer> load_file(const fs::path& file, const std::optional<fs::path>& folder) {
  const std::string name = file.filename().string();
  if (name == "vocab.json" || name == "merges.txt") {
    return load_vocabulary_and_merges(file.parent_path());
  }
  const std::string beginning = beginning_of(file);
  if (file.extension() == ".json" || beginning.starts_with("{")) {
    return load_tokenizer_json(file, folder);
  }
  if (file.extension() == ".bin") return load_llama2c(file);
  if (is_tiktoken(beginning)) return load_tiktoken(file, folder);
  std::vector<fs::path> companions;
  for (const char* companion : kCompanions) {
    if (folder && fs::exists(*folder / companion)) companions.push_back(*folder / companion);
  }
  return load_sentencepiece(file, std::move(companions));
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder_or_file) {
  if (!fs::is_directory(folder_or_file)) return load_file(folder_or_file, std::nullopt);
  const fs::path& folder = folder_or_file;
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (fs::exists(folder / name)) return load_file(folder / name, folder);
  }
  if (fs::exists(folder / "vocab.json") || fs::exists(folder / "merges.txt")) {
    return load_vocabulary_and_merges(folder);
  }
  if (const auto file = find_llama2c_tokenizer(folder)) return load_llama2c(*file);
  fail(
      "{}: expected a tokenizer (tokenizer.model, tokenizer.json, or vocab.json and merges.txt), "
      "found none",
      folder.string());
}

}  // namespace tigon
