// Documents laid into rows of a fixed number of tokens. No Torch here.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/config_reader.h"
#include "data/shard_list.h"

namespace tigon {

struct RowOptions {
  int64_t seq_len = 1024;
  // none: one stream cut into rows, attention crosses documents; documents: state, window and
  // positions reset where a document starts (and where a row starts)
  std::string borders = "none";
  // document: every document starts with BOS; none
  std::string bos = "document";
  // file: as written; documents: documents shuffled by seed before packing; rows: rows permuted by
  // seed
  std::string order = "rows";
  uint64_t seed = 0;
  // Use only the first tokens of the stream (BOS included); 0: all.
  int64_t max_tokens = 0;
  // Use only the first rows, after ordering; 0: all.
  int64_t max_rows = 0;
};

/// Reads the keys seq_len, borders, bos, order, seed, max_tokens, max_rows of a section.
RowOptions read_row_options(ConfigReader& reader, const RowOptions& defaults = {});

struct Row {
  std::vector<int64_t> tokens;           // [seq_len]
  std::vector<int64_t> segment_lengths;  // sums to seq_len; one entry without borders
  // [seq_len], whether the loss counts the prediction of a token; empty: it counts all. BOS is not
  // counted where anything is masked.
  std::vector<uint8_t> counted;
};

/// The rows of a shard, or of several laid end to end. The last partial row is dropped. Rows are
/// assembled on demand from the mapped shards, which copies of a RowSet share.
class RowSet {
 public:
  /// Throws Error if the shards give no whole row, or BOS is asked for and the tokenizer has none
  /// (bos_id −1), or an id is not below vocab_size; UsageError for options that have no meaning.
  RowSet(std::vector<TokenShard> shards, const RowOptions& options, int32_t bos_id,
         int64_t vocab_size);
  RowSet(TokenShard shard, const RowOptions& options, int32_t bos_id, int64_t vocab_size);

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  /// The row handed out at `index`, 0 … size − 1.
  Row row(int64_t index) const;
  const RowOptions& options() const;
  /// Names the shards' content (ShardList::key).
  const std::string& shard_key() const;
  /// Names the tokens of the rows and their order: equal keys, equal rows.
  std::string key() const;
  const std::vector<TokenShard>& shards() const;

  /// Moves the last `count` rows (after ordering), 1 … size − 1, into a set of their own:
  /// validation, calibration.
  RowSet split_off_last(int64_t count);

  /// The rows first … first+count−1 (in the order they are handed out) as a set of their own.
  RowSet part(int64_t first, int64_t count) const;

 private:
  struct Stream;
  std::shared_ptr<const Stream> stream_;
  std::vector<int64_t> order_;  // row numbers in the order they are handed out
};

}  // namespace tigon
