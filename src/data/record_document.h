// A record as a document, by format.
#pragma once
#include "data/document.h"
#include "data/document_options.h"
#include "io/json_file.h"

namespace tigon {

/// The document of one record under options.format. Without pieces if there is nothing to learn
/// from: an empty text, an empty answer, no assistant turn under mask_prompt. Throws BadRecord for
/// a record of another form.
Document document_of_record(const Json& record, const DocumentOptions& options);

/// text: the field alone. A record that is a plain string is its own text.
Document text_document(const Json& record, const DocumentOptions& options);
/// alpaca: Stanford Alpaca's prompt, with or without input, then output and end of sequence.
Document alpaca_document(const Json& record, const DocumentOptions& options);
/// chat: a list of {role, content} or {from, value} in the form of options.chat_template.
Document chat_document(const Json& record, const DocumentOptions& options);

/// The columns of a table that the format looks at; the others need not be read.
std::vector<std::string> record_columns(const DocumentOptions& options);

}  // namespace tigon
