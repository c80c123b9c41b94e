#include "data/record_document.h"

#include "core/error.h"
#include "data/record_fields.h"

namespace tigon {
namespace {

// The prompts that the Stanford Alpaca project published.
constexpr std::string_view kPromptWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:";
constexpr std::string_view kPromptWithoutInput =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:";

}  // namespace

Document document_of_record(const Json& record, const DocumentOptions& options) {
  if (options.format == "alpaca") return alpaca_document(record, options);
  if (options.format == "chat") return chat_document(record, options);
  return text_document(record, options);
}

Document text_document(const Json& record, const DocumentOptions& options) {
  std::string text = record.is_string() ? record.get<std::string>()
                                        : read_text_field(record, options.field).value_or("");
  return text.empty() ? Document() : Document::of_text(std::move(text));
}

Document alpaca_document(const Json& record, const DocumentOptions& options) {
  const std::string instruction = read_text_field(record, "instruction").value_or("");
  const std::string output = read_text_field(record, "output").value_or("");
  const bool has_input = find_field(record, "input") != nullptr;
  const std::string input = has_input ? read_text_field(record, "input").value_or("") : "";
  if (instruction.empty() || output.empty()) return {};
  std::string prompt = input.empty() ? fmt::format(kPromptWithoutInput, instruction)
                                     : fmt::format(kPromptWithInput, instruction, input);
  return {{{TextPiece::Kind::kText, std::move(prompt), !options.mask_prompt},
           {TextPiece::Kind::kText, output, true},
           {TextPiece::Kind::kEndOfSequence, "", true}}};
}

std::vector<std::string> record_columns(const DocumentOptions& options) {
  if (options.format == "alpaca") return {"instruction", "input", "output"};
  if (options.format == "chat" && options.field.empty()) return {"messages", "conversations"};
  // A column may have a dot in its name.
  std::vector<std::string> columns = {options.field};
  if (const size_t dot = options.field.find('.'); dot != std::string::npos) {
    columns.push_back(options.field.substr(0, dot));
  }
  return columns;
}

}  // namespace tigon
