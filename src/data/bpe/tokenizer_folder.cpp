#include "data/bpe/tokenizer_folder.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"
#include "data/bpe/vocabulary.h"
#include "io/json_fields.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// What belongs to a tokenizer in a Hugging Face folder, beside its vocabulary.
constexpr std::array kFiles = {"tokenizer_config.json", "special_tokens_map.json",
                               "added_tokens.json", "chat_template.jinja"};

/// A text, or an object with the text as `content`; null: no such token.
NamedToken named_token(const JsonFields& fields, std::string_view key) {
  if (!fields.json().contains(key)) return {};
  const Json* const value = fields.find(key);
  if (value == nullptr) return {true, std::nullopt};
  if (value->is_object()) return {true, fields.object(key).text("content")};
  return {true, fields.text(key)};
}

int32_t checked_id(std::string_view text, const std::string& name) {
  int32_t id = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (code != std::errc() || end != text.data() + text.size() || id < 0 || id >= kMaxTokenIds) {
    fail("{}: expected ids from 0 to {}, found {}", name, kMaxTokenIds - 1, text);
  }
  return id;
}

void read_added_tokens_decoder(const JsonFields& fields, std::vector<AddedToken>& tokens) {
  if (!fields.has("added_tokens_decoder")) return;
  const JsonFields decoder = fields.object("added_tokens_decoder");
  for (const auto& [id, value] : decoder.json().items()) {
    const JsonFields token = decoder.object(id);
    tokens.push_back({.content = token.text("content"),
                      .id = checked_id(id, fields.name_of("added_tokens_decoder")),
                      .is_special = token.flag("special", false),
                      .is_normalized = token.flag("normalized", true),
                      .takes_left = token.flag("lstrip", false),
                      .takes_right = token.flag("rstrip", false),
                      .is_single_word = token.flag("single_word", false)});
  }
}

void read_config(const fs::path& path, TokenizerFolder& found) {
  const Json json = read_json_file(path);
  const JsonFields fields(json, path.string());
  found.has_config = true;
  found.bos = named_token(fields, "bos_token");
  found.eos = named_token(fields, "eos_token");
  if (fields.has("add_bos_token")) found.adds_bos = fields.flag("add_bos_token", false);
  if (fields.has("add_prefix_space")) {
    found.adds_prefix_space = fields.flag("add_prefix_space", false);
  }
  found.tokenizer_class = fields.text("tokenizer_class", "");
  found.has_own_code = fields.has("auto_map");
  read_added_tokens_decoder(fields, found.added_tokens);
}

/// `{"bos_token": …, "additional_special_tokens": […]}`: names without ids. Returns all of them.
std::vector<std::string> read_special_tokens_map(const fs::path& path, TokenizerFolder& found) {
  const Json json = read_json_file(path);
  const JsonFields fields(json, path.string());
  if (!found.bos.is_mentioned) found.bos = named_token(fields, "bos_token");
  if (!found.eos.is_mentioned) found.eos = named_token(fields, "eos_token");
  std::vector<std::string> names;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_array()) {
      if (const NamedToken token = named_token(fields, key); token.content) {
        names.push_back(*token.content);
      }
      continue;
    }
    for (const Json& item : value) {
      const Json wrapped = {{"item", item}};
      names.push_back(*named_token(JsonFields(wrapped, path.string(), key + "."), "item").content);
    }
  }
  return names;
}

/// The older way to write down added tokens: names and ids.
void read_added_tokens(const fs::path& path, const std::vector<std::string>& special_names,
                       std::vector<AddedToken>& tokens) {
  const Json json = read_json_file(path);
  const JsonFields fields(json, path.string());
  for (const auto& [content, value] : json.items()) {
    const bool is_special =
        std::find(special_names.begin(), special_names.end(), content) != special_names.end();
    tokens.push_back({.content = content,
                      .id = static_cast<int32_t>(fields.integer(content, 0, kMaxTokenIds - 1)),
                      .is_special = is_special,
                      .is_normalized = !is_special});
  }
}

/// bos_token_id and eos_token_id, where nothing named them before.
void read_model_ids(const fs::path& path, TokenizerFolder& found) {
  const Json json = read_json_file(path);
  const JsonFields fields(json, path.string());
  const auto first_id = [&](std::string_view key, std::optional<int32_t>& id) {
    const std::vector<int64_t> ids = fields.integers(key, -1, kMaxTokenIds - 1);
    if (!id && !ids.empty() && ids[0] >= 0) id = static_cast<int32_t>(ids[0]);
  };
  first_id("bos_token_id", found.model_bos_id);
  first_id("eos_token_id", found.model_eos_id);
  if (path.filename() == "config.json") found.model_type = fields.text("model_type", "");
}

}  // namespace

TokenizerFolder read_tokenizer_folder(const fs::path& folder) {
  TokenizerFolder found;
  for (const char* name : kFiles) {
    if (fs::exists(folder / name)) found.files.push_back(folder / name);
  }
  const auto if_there = [&](const char* name, const auto& read) {
    if (fs::exists(folder / name)) read(folder / name);
  };
  if_there("tokenizer_config.json", [&](const fs::path& path) { read_config(path, found); });
  std::vector<std::string> special_names;
  if_there("special_tokens_map.json",
           [&](const fs::path& path) { special_names = read_special_tokens_map(path, found); });
  if (found.added_tokens.empty()) {
    if_there("added_tokens.json", [&](const fs::path& path) {
      read_added_tokens(path, special_names, found.added_tokens);
    });
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    if_there(name, [&](const fs::path& path) { read_model_ids(path, found); });
  }
  return found;
}

}  // namespace tigon
