#include "data/bpe/tokenizer_json.h"

#include <algorithm>
#include <utility>

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

/// Refuses models that tigon does not have, by name.
void check_model(const JsonFields& model) {
  // Files from before there were other kinds name none.
  const std::string type = model.text("type", "BPE");
  if (type != "BPE") {
    model.refuse("type", "BPE (tigon has no Unigram, WordPiece or WordLevel)", type);
  }
  check_keys(model, {"type", "dropout", "unk_token", "continuing_subword_prefix",
                     "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"});
  const Json* const dropout = model.find("dropout");
  if (dropout != nullptr && *dropout != 0) {
    model.refuse("dropout", "none (tigon tokenizes alike every time)", dropout->dump());
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.text(key, "").empty()) model.refuse(key, "none", model.text(key));
  }
}

BpeOptions read_options(const JsonFields& model, bool is_byte_level) {
  BpeOptions options;
  options.is_byte_level = is_byte_level;
  options.takes_whole_pieces = model.flag("ignore_merges", false);
  options.has_byte_fallback = model.flag("byte_fallback", false);
  options.joins_unknown = model.flag("fuse_unk", false);
  if (is_byte_level && options.has_byte_fallback) {
    model.refuse("byte_fallback", "false, because the pre-tokenizer is ByteLevel", "true");
  }
  return options;
}

std::vector<AddedToken> read_added_tokens(const JsonFields& fields) {
  std::vector<AddedToken> tokens;
  const Json* const list = fields.find("added_tokens");
  if (list == nullptr) return tokens;
  if (!list->is_array()) fields.refuse("added_tokens", "a list", list->type_name());
  for (const Json& item : *list) {
    const JsonFields token(item, fields.name_of("added_tokens"), " ");
    check_keys(token,
               {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    tokens.push_back({.content = token.text("content"),
                      .id = static_cast<int32_t>(token.integer("id", 0, kMaxTokenIds - 1)),
                      .is_special = token.flag("special", false),
                      .is_normalized = token.flag("normalized", true),
                      .takes_left = token.flag("lstrip", false),
                      .takes_right = token.flag("rstrip", false),
                      .is_single_word = token.flag("single_word", false)});
  }
  return tokens;
}

/// Adds the tokens that only tokenizer_config.json or added_tokens.json has.
void add_folder_tokens(const TokenizerFolder& folder, std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : folder.added_tokens) {
    const bool is_known = std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& other) {
      return other.content == token.content;
    });
    if (!is_known) tokens.push_back(token);
  }
}

void name_special_tokens(const TokenizerFolder& folder, const TemplatePart& part,
                         BpeTokenizerParts& parts) {
  const auto decide = [&](const NamedToken& named, const std::optional<std::string>& in_template,
                          std::optional<int32_t> of_model) -> std::optional<int32_t> {
    if (named.is_mentioned) return named_token_id(parts, named);
    if (in_template) return named_token_id(parts, {true, in_template});
    const bool is_there = of_model && static_cast<size_t>(*of_model) < parts.tokens.size();
    return is_there ? of_model : std::nullopt;
  };
  parts.bos_id =
      decide(folder.bos, part.before, folder.has_config ? std::nullopt : folder.model_bos_id);
  parts.eos_id = decide(folder.eos, part.after, folder.model_eos_id);
  parts.adds_bos = part.is_there ? part.before.has_value() : folder.adds_bos.value_or(false);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const fs::path& file,
                                               const std::optional<fs::path>& folder) {
  const std::string name = file.string();
  const std::string text = read_text_file(file, kMaxTokenizerBytes);
  VocabularyJson json = parse_tokenizer_json(text, name);
  const JsonFields fields(json.rest, name);
  check_keys(fields, {"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"});
  if (fields.text("version", "1.0") != "1.0") {
    fields.refuse("version", "1.0", fields.text("version"));
  }
  const JsonFields model = fields.object("model");
  check_model(model);

  BpeTokenizerParts parts;
  parts.source_name = name;
  parts.added_tokens = read_added_tokens(fields);
  parts.normalizer = read_normalizer(fields);
  PreTokenizerPart pre_tokenizer = read_pre_tokenizer(fields);
  parts.pre_tokenizer = std::move(pre_tokenizer.steps);
  DecoderPart decoder = read_decoder(fields);
  parts.decoder = std::move(decoder.steps);
  parts.decodes_fallback_bytes = decoder.has_byte_fallback;
  if (json.vocabulary.empty()) model.refuse("vocab", "an object of pieces and ids", "none");
  parts.model = build_bpe_model(
      {.source_name = name,
       .vocabulary = std::move(json.vocabulary),
       .merges = std::move(json.merges),
       .options = read_options(model, pre_tokenizer.is_byte_level),
       .unknown = model.has("unk_token") ? std::optional(model.text("unk_token")) : std::nullopt},
      parts.tokens);

  TokenizerFolder beside;
  if (folder) beside = read_tokenizer_folder(*folder);
  add_folder_tokens(beside, parts.added_tokens);
  place_added_tokens(parts);
  name_special_tokens(beside, read_template(fields), parts);
  ContentHash hash;
  hash.add(text);
  for (const AddedToken& token : beside.added_tokens) hash.add(token.content);
  parts.fingerprint = "tokenizer-json-" + hash.hex();
  parts.files = {file};
  parts.files.insert(parts.files.end(), beside.files.begin(), beside.files.end());
  return make_bpe_tokenizer(std::move(parts));
}

}  // namespace tigon
