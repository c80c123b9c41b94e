// Named chat templates: tables of strings, no language.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/document.h"

namespace tigon {

/// How the turns of one role are written: before, the turn's text, end, after. In these strings
/// `<|…|>` names a special token and `{eos}` the tokenizer's end of sequence; in a turn's own text
/// neither means anything. Of a masked conversation the loss counts text and end of the assistant.
struct ChatTurnStyle {
  std::string_view before, end, after;
};

struct ChatTemplate {
  std::string_view name;
  ChatTurnStyle system, user, assistant;
  std::string_view default_system;  // where a conversation has no system turn; empty: none
  bool system_is_in_user = false;   // the system turn stands in front of the next user turn's text
  bool trims_text = false;          // white space around a turn's text is dropped
};

/// Throws UsageError naming the known templates for another name.
const ChatTemplate& find_chat_template(std::string_view name);
std::vector<std::string> chat_template_names();

/// A template's string as text and special tokens.
std::vector<TextPiece> split_special_tokens(std::string_view text, bool is_counted);

}  // namespace tigon
