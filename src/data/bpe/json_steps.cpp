#include "data/bpe/json_steps.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "data/utf8.h"

namespace tigon {

void for_each_step(
    const JsonFields& fields, std::string_view key, std::string_view members_key,
    const std::function<void(const std::string& type, const JsonFields& step)>& visit) {
  if (!fields.has(key)) return;
  const JsonFields step = fields.object(key);
  const std::string type = step.text("type");
  if (type != "Sequence") return visit(type, step);
  check_keys(step, {"type", members_key});
  const Json* const members = step.find(members_key);
  if (members == nullptr || !members->is_array()) {
    step.refuse(members_key, "a list", members == nullptr ? "nothing" : members->type_name());
  }
  for (size_t i = 0; i < members->size(); ++i) {
    const std::string name = fmt::format("[{}]", i);
    const Json wrapped = Json::object({{name, (*members)[i]}});
    for_each_step(JsonFields(wrapped, step.name_of(members_key)), name, members_key, visit);
  }
}

Regex read_pattern(const JsonFields& step) {
  const JsonFields pattern = step.object("pattern");
  check_keys(pattern, {"String", "Regex"});
  if (pattern.has("Regex")) return Regex(pattern.text("Regex"), pattern.name_of("Regex"));
  const std::string text = pattern.text("String");
  if (text.empty()) pattern.refuse("String", "a text that is not empty", "\"\"");
  return Regex::literal(text, pattern.name_of("String"));
}

void refuse_type(const JsonFields& step, std::string_view known) {
  step.refuse("type", fmt::format("one of {}", known), step.text("type"));
}

void check_keys(const JsonFields& fields, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : fields.json().items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      fail("{}: a key that tigon does not know; expected one of {}", fields.name_of(key),
           fmt::join(known, ", "));
    }
  }
}

PrependScheme read_prepend_scheme(const JsonFields& step) {
  const std::string scheme = step.text("prepend_scheme", "always");
  const bool adds_space = step.flag("add_prefix_space", true);
  if (!adds_space && step.has("prepend_scheme") && scheme != "never") {
    step.refuse("prepend_scheme", "never, because add_prefix_space is false", scheme);
  }
  if (!adds_space || scheme == "never") return PrependScheme::kNever;
  if (scheme == "always") return PrependScheme::kAlways;
  if (scheme == "first") return PrependScheme::kFirst;
  step.refuse("prepend_scheme", "always, first or never", scheme);
}

std::string read_character(const JsonFields& step, std::string_view key) {
  const std::string text = step.text(key);
  if (text.empty() || text.size() != character_bytes(text)) {
    step.refuse(key, "one character", "\"" + text + "\"");
  }
  return text;
}

}  // namespace tigon
