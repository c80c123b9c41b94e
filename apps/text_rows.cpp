#include "text_rows.h"

#include <algorithm>
#include <thread>

#include "core/log.h"
#include "data/chat_template.h"
#include "data/data_files.h"

namespace tigon {

namespace {

void add_document_options(CLI::App& command, TextOptions& options) {
  DocumentOptions& documents = options.documents;
  command
      .add_option("--format", documents.format,
                  "records: text; alpaca: instruction, input, output; chat: a list of turns")
      ->capture_default_str()
      ->check(CLI::IsMember({"text", "alpaca", "chat"}));
  command.add_option("--field", options.field,
                     "where the text (or the turns) of a record is, a dotted path");
  command.add_option("--chat-template", documents.chat_template, "how turns are written")
      ->check(CLI::IsMember(chat_template_names()));
  command.add_flag("--count-prompt", options.counts_prompt,
                   "alpaca and chat: the loss counts prompts too, not only answers");
  command.add_option("--separator", documents.separator,
                     "the line between documents of a text file; default: one NUL byte");
  command.add_option("--on-bad-record", documents.on_bad_record, "error, or skip: leave it out")
      ->capture_default_str()
      ->check(CLI::IsMember({"error", "skip"}));
}

/// With the defaults that depend on the format.
DocumentOptions document_options(const TextOptions& options) {
  DocumentOptions documents = options.documents;
  documents.mask_prompt = documents.format != "text" && !options.counts_prompt;
  const std::string usual_field = documents.format == "chat" ? "" : documents.field;
  documents.field = options.field.value_or(usual_field);
  return documents;
}

}  // namespace

CLI::Option* add_text_options(CLI::App& command, TextOptions& options) {
  CLI::Option* const text =
      command
          .add_option("--text", options.files,
                      "files (.txt, .jsonl, .json, .parquet; packed .gz, .xz, .zst), folders or "
                      "quoted patterns, read in this order")
          ->type_name("FILE");
  add_document_options(command, options);
  command.add_option("--seq-len", options.rows.seq_len, "tokens in a row")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24));
  command.add_option("--rows", options.rows.max_rows, "use only the first rows; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--borders", options.rows.borders,
                  "none: documents run on; documents: memory and positions start anew with each")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "documents"}));
  command.add_option("--bos", options.rows.bos, "document: each document starts with BOS; none")
      ->capture_default_str()
      ->check(CLI::IsMember({"document", "none"}));
  command.add_option("--batch-rows", options.batch_rows, "rows computed at once")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  return text;
}

RowSet open_text_rows(const TextOptions& options, const std::filesystem::path& model_folder,
                      const ModelConfig& config) {
  const auto tokenizer = load_tokenizer(model_folder);
  const int num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  RowSet rows(open_token_shard(find_data_files(options.files), *tokenizer, default_cache_folder(),
                               num_threads, document_options(options)),
              options.rows, tokenizer->bos_id().value_or(-1), config.vocab_size);
  if (rows.size() < options.rows.max_rows) {
    log_warning("data", "the text gives {} rows of {} tokens; {} were asked for", rows.size(),
                options.rows.seq_len, options.rows.max_rows);
  }
  return rows;
}

}  // namespace tigon
