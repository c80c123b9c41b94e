#include "data/chat_template.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace tigon {
namespace {

constexpr std::string_view kEndOfSequence = "{eos}";

// BOS is not theirs: every document starts with it (data.bos).
constexpr std::array<ChatTemplate, 4> kTemplates = {{
    {.name = "chatml",
     .system = {"<|im_start|>system\n", "<|im_end|>", "\n"},
     .user = {"<|im_start|>user\n", "<|im_end|>", "\n"},
     .assistant = {"<|im_start|>assistant\n", "<|im_end|>", "\n"},
     .default_system = ""},
    {.name = "llama3",
     .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", ""},
     .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", ""},
     .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", ""},
     .default_system = "",
     .trims_text = true},
    {.name = "mistral",
     .system = {"", "", "\n\n"},
     .user = {"[INST] ", "", " [/INST]"},
     .assistant = {" ", "{eos}", ""},
     .default_system = "",
     .system_is_in_user = true,
     .trims_text = true},
    {.name = "alpaca",
     .system = {"", "", "\n\n"},
     .user = {"### Instruction:\n", "", "\n\n"},
     .assistant = {"### Response:\n", "{eos}", "\n\n"},
     .default_system = "Below is an instruction that describes a task. Write a response that "
                       "appropriately completes the request."},
}};

}  // namespace

const ChatTemplate& find_chat_template(std::string_view name) {
  const auto found = std::ranges::find(kTemplates, name, &ChatTemplate::name);
  if (found != kTemplates.end()) return *found;
  std::string names;
  for (const std::string& known : chat_template_names())
    names += (names.empty() ? "" : ", ") + known;
  throw UsageError(fmt::format(
      "chat_template: expected one of {}, found \"{}\"; a model's own Jinja template is not read",
      names, name));
}

std::vector<std::string> chat_template_names() {
  std::vector<std::string> names;
  for (const ChatTemplate& known : kTemplates) names.emplace_back(known.name);
  return names;
}

std::vector<TextPiece> split_special_tokens(std::string_view text, bool is_counted) {
  std::vector<TextPiece> pieces;
  const auto add = [&](TextPiece::Kind kind, std::string_view part) {
    if (kind == TextPiece::Kind::kText && part.empty()) return;
    pieces.push_back({kind, std::string(part), is_counted});
  };
  while (true) {
    const size_t end_token = text.find(kEndOfSequence);
    const size_t special = text.find("<|");
    const size_t start = std::min(end_token, special);
    add(TextPiece::Kind::kText, text.substr(0, start));
    if (start == std::string_view::npos) return pieces;
    text.remove_prefix(start);
    if (start == end_token) {
      add(TextPiece::Kind::kEndOfSequence, "");
      text.remove_prefix(kEndOfSequence.size());
    } else {
      const size_t size = text.find("|>") + 2;
      add(TextPiece::Kind::kSpecialToken, text.substr(0, size));
      text.remove_prefix(size);
    }
  }
}

}  // namespace tigon
