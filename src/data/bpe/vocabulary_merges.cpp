#include "data/bpe/vocabulary_merges.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/bpe/bpe_tokenizer.h"
#include "data/bpe/json_steps.h"
#include "data/bpe/model_building.h"
#include "data/bpe/tokenizer_folder.h"
#include "data/bpe/tokenizer_json_parts.h"
#include "data/bpe/vocabulary_json.h"
#include "data/content_hash.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEndOfText = "<|endoftext|>";

constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

enum class Family { kGpt2, kQwen };

Family family_of(const TokenizerFolder& beside, const fs::path& folder) {
  const std::string& name =
      beside.tokenizer_class.empty() ? beside.model_type : beside.tokenizer_class;
  if (name.empty() || name == "gpt2" || name == "GPT2Tokenizer" || name == "GPT2TokenizerFast") {
    return Family::kGpt2;
  }
  if (name == "qwen2" || name == "qwen3" || name == "Qwen2Tokenizer" ||
      name == "Qwen2TokenizerFast") {
    return Family::kQwen;
  }
  fail(
      "{}: vocab.json and merges.txt: expected the tokenizer of GPT-2 or Qwen, found {} (its "
      "tokenizer.json would say how it splits text)",
      folder.string(), name);
}

std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text,
                                                              const std::string& name) {
  std::vector<std::pair<std::string, std::string>> merges;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    // The version, and empty lines at the end.
    if (line.starts_with("#version") || line.empty()) continue;
    merges.push_back(split_merge(line, merges.size() + 1, name));
  }
  return merges;
}

/// The steps of a family, written as a tokenizer.json has them.
Json parts_of(Family family, bool adds_prefix_space) {
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", adds_prefix_space},
                           {"use_regex", family == Family::kGpt2}};
  Json parts = {{"pre_tokenizer", byte_level}, {"decoder", {{"type", "ByteLevel"}}}};
  if (family == Family::kQwen) {
    const Json split = {
        {"type", "Split"}, {"pattern", {{"Regex", kQwenPattern}}}, {"behavior", "Isolated"}};
    parts["normalizer"] = {{"type", "NFC"}};
    parts["pre_tokenizer"] = {{"type", "Sequence"},
                              {"pretokenizers", Json::array({split, byte_level})}};
  }
  return parts;
}

/// Also gives them their ids in `parts.tokens`.
void add_tokens(const TokenizerFolder& beside, BpeTokenizerParts& parts) {
  parts.added_tokens = beside.added_tokens;
  const auto end_of_text = std::find(parts.tokens.begin(), parts.tokens.end(), kEndOfText);
  if (parts.added_tokens.empty() && end_of_text != parts.tokens.end()) {
    const auto id = static_cast<int32_t>(end_of_text - parts.tokens.begin());
    parts.added_tokens.push_back(
        {.content = std::string(kEndOfText), .id = id, .is_special = true});
  }
  place_added_tokens(parts);
}

/// Without any word on it, both families end a text with <|endoftext|>, and GPT-2 begins with it.
void name_special_tokens(Family family, const TokenizerFolder& beside, BpeTokenizerParts& parts) {
  NamedToken usual;
  const bool has_end_of_text =
      std::any_of(parts.added_tokens.begin(), parts.added_tokens.end(),
                  [](const AddedToken& token) { return token.content == kEndOfText; });
  if (has_end_of_text) usual = {true, std::string(kEndOfText)};
  const NamedToken usual_bos = family == Family::kGpt2 ? usual : NamedToken{};
  parts.bos_id = named_token_id(parts, beside.bos.is_mentioned ? beside.bos : usual_bos);
  parts.eos_id = named_token_id(parts, beside.eos.is_mentioned ? beside.eos : usual);
  parts.adds_bos = beside.adds_bos.value_or(false);
}

}  // namespace

std::unique_ptr<Tokenizer> load_vocabulary_and_merges(const fs::path& folder) {
  const fs::path vocabulary_file = folder / "vocab.json", merges_file = folder / "merges.txt";
  const std::string vocabulary = read_text_file(vocabulary_file, kMaxTokenizerBytes);
  const std::string merges = read_text_file(merges_file, kMaxTokenizerBytes);
  const TokenizerFolder beside = read_tokenizer_folder(folder);
  const Family family = family_of(beside, folder);
  const Json steps = parts_of(family, beside.adds_prefix_space.value_or(false));
  const JsonFields fields(steps, folder.string());

  BpeTokenizerParts parts;
  parts.source_name = vocabulary_file.string();
  parts.normalizer = read_normalizer(fields);
  parts.pre_tokenizer = read_pre_tokenizer(fields).steps;
  parts.decoder = read_decoder(fields).steps;
  parts.model =
      build_bpe_model({.source_name = folder.string(),
                       .vocabulary = parse_vocabulary_json(vocabulary, vocabulary_file.string()),
                       .merges = parse_merges(merges, merges_file.string()),
                       .options = {},
                       .unknown = std::nullopt},
                      parts.tokens);
  add_tokens(beside, parts);
  name_special_tokens(family, beside, parts);
  ContentHash hash;
  hash.add(vocabulary).add(merges).add(steps.dump());
  for (const AddedToken& token : parts.added_tokens) {
    hash.add(fmt::format("{} {} {} {} {} {}", token.content, token.id, token.is_normalized,
                         token.takes_left, token.takes_right, token.is_single_word));
  }
  parts.fingerprint = "vocabulary-merges-" + hash.hex();
  parts.files = {vocabulary_file, merges_file};
  parts.files.insert(parts.files.end(), beside.files.begin(), beside.files.end());
  return make_bpe_tokenizer(std::move(parts));
}

}  // namespace tigon
