// How the records of data files become documents.
#pragma once
#include <cstddef>
#include <string>

#include "core/config_reader.h"

namespace tigon {

/// A document is held in memory, and tokenized, as a whole.
inline constexpr size_t kMaxDocumentBytes = size_t{1} << 30;

struct DocumentOptions {
  // text: a text (a file's, or a record's field); alpaca: instruction, input and output; chat:
  // turns
  std::string format = "text";
  // text: where the text is in a record, a dotted path; chat: where the turns are (empty: messages,
  // else conversations)
  std::string field = "text";
  // chat: chatml | llama3 | mistral | alpaca
  std::string chat_template = {};
  // The loss counts no token of what the model is given, only of what it is to say.
  bool mask_prompt = false;
  // The line between two documents of a text file
  std::string separator = std::string(1, '\0');
  // error: a record that cannot be read ends the run; skip: it is counted and left out
  std::string on_bad_record = "error";
  size_t max_document_bytes = kMaxDocumentBytes;
};

/// Reads the keys format, field, chat_template, mask_prompt, separator, on_bad_record and
/// max_document_bytes of a section; those that a format does not use are problems. Where a key is
/// absent `defaults` hold; their format's own keys only if the section has the same format.
DocumentOptions read_document_options(ConfigReader& reader, const DocumentOptions& defaults = {});

/// Throws UsageError for a value that has no meaning; names the option.
void check_document_options(const DocumentOptions& options);

/// A hash of all options: a part of a shard's key.
std::string fingerprint(const DocumentOptions& options);

}  // namespace tigon
