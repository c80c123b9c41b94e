#include "data/document_options.h"

#include <algorithm>

#include "data/chat_template.h"
#include "data/content_hash.h"

namespace tigon {
namespace {

const std::vector<std::string> kFormats = {"text", "alpaca", "chat"};
const std::vector<std::string> kBadRecordRules = {"error", "skip"};

void check_choice(const char* name, const std::string& found,
                  const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), found) != allowed.end()) return;
  std::string words;
  for (const std::string& word : allowed) words += (words.empty() ? "" : ", ") + word;
  throw UsageError(fmt::format("{}: expected one of {}, found \"{}\"", name, words, found));
}

/// A key that only some formats read.
void refuse_unused(ConfigReader& reader, const char* key, const std::string& users,
                   const std::string& format) {
  if (reader.has(key)) {
    reader.problem(key, fmt::format("only used with format: {}, found {}", users, format));
  }
}

}  // namespace

DocumentOptions read_document_options(ConfigReader& reader, const DocumentOptions& defaults) {
  DocumentOptions options;
  options.format = reader.choice("format", kFormats, defaults.format);
  const bool is_text = options.format == "text", is_chat = options.format == "chat";
  if (options.format == defaults.format) {
    options = defaults;
  } else {
    options.mask_prompt = !is_text;
    if (is_chat) options.field.clear();
  }
  if (is_chat && options.chat_template.empty()) {
    options.chat_template = reader.choice("chat_template", chat_template_names());
  } else if (is_chat) {
    options.chat_template =
        reader.choice("chat_template", chat_template_names(), options.chat_template);
  } else {
    refuse_unused(reader, "chat_template", "chat", options.format);
  }
  if (is_text) {
    refuse_unused(reader, "mask_prompt", "alpaca or chat", options.format);
    options.separator = reader.text("separator", options.separator);
  } else {
    options.mask_prompt = reader.flag("mask_prompt", options.mask_prompt);
    refuse_unused(reader, "separator", "text", options.format);
  }
  if (options.format == "alpaca") {
    refuse_unused(reader, "field", "text or chat", options.format);
  } else {
    options.field = reader.text("field", options.field);
  }
  if (is_text && options.field.empty()) reader.problem("field", "expected a name, found nothing");
  if (options.separator.empty() || options.separator.find('\n') != std::string::npos) {
    reader.problem("separator", "expected the text of one line, found another");
  }
  options.on_bad_record = reader.choice("on_bad_record", kBadRecordRules, defaults.on_bad_record);
  options.max_document_bytes = static_cast<size_t>(
      reader.integer("max_document_bytes", static_cast<int64_t>(defaults.max_document_bytes),
                     between(1, static_cast<double>(kMaxDocumentBytes))));
  return options;
}

void check_document_options(const DocumentOptions& options) {
  check_choice("format", options.format, kFormats);
  check_choice("on_bad_record", options.on_bad_record, kBadRecordRules);
  if (options.format == "chat") find_chat_template(options.chat_template);
  if (options.format == "text" && options.mask_prompt) {
    throw UsageError("mask_prompt: expected format alpaca or chat, found text");
  }
}

std::string fingerprint(const DocumentOptions& options) {
  ContentHash hash;
  hash.add(options.format).add(options.field).add(options.chat_template);
  hash.add(options.mask_prompt ? "masked" : "whole").add(options.separator);
  hash.add(options.on_bad_record).add(std::to_string(options.max_document_bytes));
  return hash.hex();
}

}  // namespace tigon
