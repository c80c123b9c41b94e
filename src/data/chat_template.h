// Chat templates: how a model wants a conversation written. They are programs in the Jinja
// language, which tigon does not run.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace tigon {

/// The text of the template of a model folder: chat_template.jinja, else `chat_template` of
/// tokenizer_config.json (a text, or a list of named ones, of which "default" counts). Nothing if
/// there is none. Throws Error naming file and key for one of another form.
std::optional<std::string> find_chat_template(const std::filesystem::path& folder);

/// For those who are asked to render a conversation: throws Error, which says whether the folder
/// has a template and what to do instead.
[[noreturn]] void refuse_chat_template(const std::filesystem::path& folder);

}  // namespace tigon
