#include "text_rows.h"

#include <algorithm>
#include <thread>

#include "core/log.h"

namespace tigon {

CLI::Option* add_text_options(CLI::App& command, TextOptions& options) {
  CLI::Option* const text =
      command.add_option("--text", options.files, "text files (.txt, .xz), read in this order")
          ->type_name("FILE");
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
  const std::vector<std::filesystem::path> files(options.files.begin(), options.files.end());
  const int num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  RowSet rows(open_token_shard(files, *tokenizer, default_cache_folder(), num_threads),
              options.rows, tokenizer->bos_id().value_or(-1), config.vocab_size);
  if (rows.size() < options.rows.max_rows) {
    log_warning("data", "the text gives {} rows of {} tokens; {} were asked for", rows.size(),
                options.rows.seq_len, options.rows.max_rows);
  }
  return rows;
}

}  // namespace tigon
