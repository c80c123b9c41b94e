#include <utility>

#include "data/bad_record.h"
#include "data/chat_template.h"
#include "data/record_document.h"
#include "data/record_fields.h"

namespace tigon {
namespace {

enum class Role { kSystem, kUser, kAssistant };

struct Turn {
  Role role;
  std::string text;
};

[[noreturn]] void refuse(const std::string& reason) {
  throw BadRecord(&CorpusCounts::malformed, reason);
}

Role role_of(const std::string& name) {
  if (name == "system") return Role::kSystem;
  if (name == "user" || name == "human") return Role::kUser;
  if (name == "assistant" || name == "gpt") return Role::kAssistant;
  refuse(fmt::format("expected a turn of system, user (human) or assistant (gpt), found \"{}\"",
                     name));
}

Turn read_turn(const Json& json) {
  const bool is_share_gpt = find_field(json, "from") != nullptr;
  const auto role = read_text_field(json, is_share_gpt ? "from" : "role");
  auto text = read_text_field(json, is_share_gpt ? "value" : "content");
  return {role_of(role.value_or("null")), std::move(text).value_or("")};
}

std::vector<Turn> read_turns(const Json& record, const DocumentOptions& options) {
  const Json* list = nullptr;
  if (options.field.empty()) {
    list = find_field(record, "messages");
    if (list == nullptr) list = find_field(record, "conversations");
  } else {
    list = find_field(record, options.field);
  }
  if (list == nullptr || !list->is_array()) {
    throw BadRecord(
        &CorpusCounts::without_field,
        fmt::format("expected a list of turns under {}, found {}",
                    options.field.empty() ? "\"messages\" or \"conversations\""
                                          : "\"" + options.field + "\"",
                    list == nullptr ? describe_json(record) : describe_json(*list) + " there"));
  }
  std::vector<Turn> turns;
  for (const Json& json : *list) turns.push_back(read_turn(json));
  return turns;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

/// Writes turns one after another as a template says.
class Writer {
 public:
  Writer(const ChatTemplate& chat_template, bool mask_prompt)
      : template_(chat_template), mask_prompt_(mask_prompt) {}

  void add(const Turn& turn) {
    const std::string_view text = template_.trims_text ? trimmed(turn.text) : turn.text;
    if (turn.role == Role::kSystem && template_.system_is_in_user) {
      if (!waiting_.empty()) refuse("expected a user turn after a system turn, found another one");
      add_style(template_.system, text, waiting_, false);
      return;
    }
    if (turn.role == Role::kAssistant && !waiting_.empty()) {
      refuse("expected a user turn after a system turn, found one of the assistant");
    }
    add_style(style_of(turn.role), text, pieces_, turn.role == Role::kAssistant);
  }

  std::vector<TextPiece> finish() {
    if (!waiting_.empty()) refuse("expected a user turn after a system turn, found none");
    return std::move(pieces_);
  }

 private:
  const ChatTurnStyle& style_of(Role role) const {
    if (role == Role::kSystem) return template_.system;
    return role == Role::kUser ? template_.user : template_.assistant;
  }

  void add_style(const ChatTurnStyle& style, std::string_view text, std::vector<TextPiece>& into,
                 bool is_answer) {
    const bool counts_rest = !mask_prompt_;
    append(split_special_tokens(style.before, counts_rest), into);
    if (&into != &waiting_) append(std::exchange(waiting_, {}), into);
    if (!text.empty()) {
      into.push_back({TextPiece::Kind::kText, std::string(text), counts_rest || is_answer});
    }
    append(split_special_tokens(style.end, counts_rest || is_answer), into);
    append(split_special_tokens(style.after, counts_rest), into);
  }

  static void append(std::vector<TextPiece> pieces, std::vector<TextPiece>& into) {
    for (TextPiece& piece : pieces) into.push_back(std::move(piece));
  }

  const ChatTemplate& template_;
  bool mask_prompt_;
  std::vector<TextPiece> pieces_;
  std::vector<TextPiece> waiting_;  // a system turn that a user turn will hold
};

}  // namespace

Document chat_document(const Json& record, const DocumentOptions& options) {
  const ChatTemplate& chat_template = find_chat_template(options.chat_template);
  const std::vector<Turn> turns = read_turns(record, options);
  bool has_answer = false;
  for (const Turn& turn : turns) {
    has_answer = has_answer || (turn.role == Role::kAssistant && !trimmed(turn.text).empty());
  }
  if (turns.empty() || (options.mask_prompt && !has_answer)) return {};
  Writer writer(chat_template, options.mask_prompt);
  if (turns.front().role != Role::kSystem && !chat_template.default_system.empty()) {
    writer.add({Role::kSystem, std::string(chat_template.default_system)});
  }
  for (const Turn& turn : turns) writer.add(turn);
  return {writer.finish()};
}

}  // namespace tigon
