#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "core/error.h"
#include "data/llama2c_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "io/json_file.h"
#include "io/mapped_file.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// What lies beside tokenizer.model in a Hugging Face folder and goes where it goes.
constexpr std::array kCompanions = {"tokenizer_config.json", "special_tokens_map.json",
                                    "added_tokens.json", "tokenizer.json", "chat_template.jinja"};

[[noreturn]] void refuse(const fs::path& file, const char* kind) {
  fail("{}: {}, not supported yet; expected a sentencepiece tokenizer.model", file.string(), kind);
}

/// A line of a tiktoken file: base64 text, a space, a rank.
bool is_tiktoken_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size()) return false;
  const auto is_base64 = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
  };
  const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const std::string_view text = line.substr(0, space), rank = line.substr(space + 1);
  return std::all_of(text.begin(), text.end(), is_base64) &&
         std::all_of(rank.begin(), rank.end(), is_digit);
}

/// Refuses by name, or by the first line, what is no sentencepiece model.
void refuse_other_kinds(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name == "vocab.json" || name == "merges.txt") {
    refuse(file, "a byte-level BPE tokenizer (vocab.json and merges.txt)");
  }
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string_view line = text.substr(0, std::min(text.find('\n'), size_t{1000}));
  if (is_tiktoken_line(line)) refuse(file, "a tiktoken file (Llama 3)");
  if (file.extension() == ".json" || line.starts_with("{")) {
    refuse(file, "a Hugging Face tokenizer.json");
  }
}

std::unique_ptr<Tokenizer> load_llama2c(const fs::path& file) {
  const std::string name = file.string();
  return load_sentencepiece_model(sentencepiece_model_of_llama2c(read_text_file(file), name), name,
                                  {file});
}

std::unique_ptr<Tokenizer> load_folder(const fs::path& folder) {
  const fs::path model = folder / "tokenizer.model";
  if (fs::exists(model)) {
    refuse_other_kinds(model);
    std::vector<fs::path> companions;
    for (const char* name : kCompanions) {
      if (fs::exists(folder / name)) companions.push_back(folder / name);
    }
    return load_sentencepiece(model, std::move(companions));
  }
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"}) {
    if (fs::exists(folder / name)) refuse_other_kinds(folder / name);
  }
  if (const auto file = find_llama2c_tokenizer(folder)) return load_llama2c(*file);
  fail("{}: expected a tokenizer (tokenizer.model), found none", folder.string());
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder_or_file) {
  if (fs::is_directory(folder_or_file)) return load_folder(folder_or_file);
  if (folder_or_file.extension() == ".bin") return load_llama2c(folder_or_file);
  refuse_other_kinds(folder_or_file);
  return load_sentencepiece(folder_or_file, {});
}

}  // namespace tigon
