#include "train/data_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/log.h"
#include "data/data_files.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// Makes row sets of a run; the shards behind them are tokenized once and found again.
class RowSource {
 public:
  RowSource(const RunConfig& config, const Tokenizer& tokenizer, int64_t vocab_size)
      : config_(config), tokenizer_(tokenizer), vocab_size_(vocab_size) {}

  Mixture train() const {
    if (is_weighted(config_.train_sources)) return mixture();
    RowSet rows = open(config_.train_sources, config_.train_rows);
    if (config_.validation_fraction > 0) rows.split_off_last(held_out_count(rows));
    return Mixture(std::move(rows));
  }
  /// Every held-out row.
  RowSet held_out() const {
    if (!config_.validation_sources.empty()) {
      return open(config_.validation_sources, config_.validation_rows);
    }
    RowSet rows = open(config_.train_sources, config_.train_rows);
    return rows.split_off_last(held_out_count(rows));
  }

 private:
  TokenShard shard(const DataSource& source) const {
    const fs::path cache =
        config_.cache_folder.empty() ? default_cache_folder() : fs::path(config_.cache_folder);
    return open_token_shard(find_data_files(source.paths), tokenizer_, cache, at::get_num_threads(),
                            source.documents);
  }

  RowSet rows_of(std::vector<TokenShard> shards, const RowOptions& options) const {
    return RowSet(std::move(shards), options, tokenizer_.bos_id().value_or(-1), vocab_size_);
  }

  /// The sources one after another.
  RowSet open(const std::vector<DataSource>& sources, const RowOptions& options) const {
    std::vector<TokenShard> shards;
    for (const DataSource& source : sources) shards.push_back(shard(source));
    return rows_of(std::move(shards), options);
  }

  Mixture mixture() const {
    std::vector<MixtureEntry> entries;
    for (const DataSource& source : config_.train_sources) {
      MixtureEntry entry{open({source}, config_.train_rows), source.weight, 0};
      entry.max_rows = row_limit(source, entry.rows);
      entries.push_back(std::move(entry));
    }
    return Mixture(std::move(entries));
  }

  /// 0: none.
  static int64_t row_limit(const DataSource& source, const RowSet& rows) {
    int64_t limit = 0;
    if (source.epochs > 0) {
      limit = static_cast<int64_t>(std::ceil(source.epochs * static_cast<double>(rows.size())));
    }
    if (source.max_tokens > 0) {
      const int64_t whole = std::max<int64_t>(source.max_tokens / rows.options().seq_len, 1);
      limit = limit > 0 ? std::min(limit, whole) : whole;
    }
    return limit;
  }

  int64_t held_out_count(const RowSet& rows) const {
    const double share = config_.validation_fraction * static_cast<double>(rows.size());
    const int64_t count = std::max<int64_t>(1, static_cast<int64_t>(share));
    if (count >= rows.size()) {
      fail("data.validation_fraction: {} row(s) are too few to hold any out", rows.size());
    }
    return count;
  }

  const RunConfig& config_;
  const Tokenizer& tokenizer_;
  int64_t vocab_size_;
};

/// The run must not need more rows than limited entries give.
void check_budget(const RunConfig& config, const Mixture& rows) {
  const int64_t needed = config.total_steps() * config.rows_per_step();
  const std::optional<int64_t> limit = rows.max_rows();
  if (limit && (needed > *limit || needed == 0)) {
    fail(
        "data.train: the limits of its entries (epochs, max_tokens) give {} rows; the run's {} "
        "steps of {} rows need {}",
        *limit, config.total_steps(), config.rows_per_step(),
        std::max(needed, config.rows_per_step()));
  }
  if (rows.size() < config.rows_per_step()) {
    log_warning("data", "a step reads {} rows but the data has only {}: rows repeat within a step",
                config.rows_per_step(), rows.size());
  }
}

}  // namespace

void open_data(RunConfig& config, const Tokenizer& tokenizer, int64_t vocab_size, RunParts& parts) {
  const RowSource source(config, tokenizer, vocab_size);
  parts.train_rows.emplace(source.train());
  config.epoch_rows = parts.train_rows->size();
  config.max_rows = parts.train_rows->max_rows().value_or(0);
  if (config.has_validation()) {
    // Evaluation takes the first rows, validation the last: the checkpoint is not chosen on the
    // rows it is judged by, unless there are too few of them.
    const RowSet held_out = source.held_out();
    const int64_t eval = std::min(config.eval_rows, held_out.size());
    const int64_t validation = std::min(config.train.validation_rows, held_out.size());
    parts.eval_rows.emplace(held_out.part(0, eval));
    parts.validation_rows.emplace(held_out.part(held_out.size() - validation, validation));
  }
  check_budget(config, *parts.train_rows);
  check_warmup(config);
}

Json describe_sources(const std::vector<DataSource>& sources,
                      const std::vector<const TokenShard*>& shards) {
  Json described = Json::array();
  for (size_t i = 0; i < std::min(sources.size(), shards.size()); ++i) {
    const CorpusCounts& counts = shards[i]->counts();
    Json source = {{"paths", sources[i].paths},
                   {"format", sources[i].documents.format},
                   {"shard", shards[i]->key()},
                   {"documents", counts.documents},
                   {"tokens", shards[i]->num_tokens()},
                   {"counted_tokens", shards[i]->num_counted()},
                   {"skipped",
                    {{"empty", counts.empty},
                     {"malformed", counts.malformed},
                     {"without_field", counts.without_field},
                     {"too_long", counts.too_long}}}};
    if (sources[i].weight > 0) source["weight"] = sources[i].weight;
    described.push_back(std::move(source));
  }
  return described;
}

}  // namespace tigon
