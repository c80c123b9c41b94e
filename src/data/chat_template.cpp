#include "data/chat_template.h"

#include "core/error.h"
#include "io/json_fields.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// `[{"name": …, "template": …}, …]`
std::optional<std::string> default_template(const Json& list, const JsonFields& fields) {
  for (const Json& item : list) {
    const JsonFields named(item, fields.name_of("chat_template"), " ");
    if (named.text("name") == "default") return named.text("template");
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> find_chat_template(const fs::path& folder) {
  const fs::path file = folder / "chat_template.jinja", config = folder / "tokenizer_config.json";
  if (fs::exists(file)) return read_text_file(file);
  if (!fs::exists(config)) return std::nullopt;
  const Json json = read_json_file(config);
  const JsonFields fields(json, config.string());
  const Json* const found = fields.find("chat_template");
  if (found == nullptr) return std::nullopt;
  if (found->is_array()) return default_template(*found, fields);
  return fields.text("chat_template");
}

void refuse_chat_template(const fs::path& folder) {
  if (!find_chat_template(folder)) {
    fail("{}: expected a chat template (chat_template.jinja), found none", folder.string());
  }
  fail(
      "{}: tigon does not render chat templates (Jinja); give the conversation as the text that "
      "the "
      "template makes of it",
      folder.string());
}

}  // namespace tigon
