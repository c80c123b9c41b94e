#include "data/rows.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/random.h"
#include "data/content_hash.h"
#include "data/shard_format.h"

namespace tigon {
namespace {

void check_choice(std::string_view name, const std::string& found,
                  std::initializer_list<std::string_view> allowed) {
  if (std::find(allowed.begin(), allowed.end(), found) != allowed.end()) return;
  std::string words;
  for (const std::string_view word : allowed) words.append(words.empty() ? "" : ", ").append(word);
  throw UsageError(fmt::format("{}: expected one of {}, found \"{}\"", name, words, found));
}

void check_options(const RowOptions& options) {
  check_choice("borders", options.borders, {"none", "documents"});
  check_choice("bos", options.bos, {"document", "none"});
  check_choice("order", options.order, {"file", "documents", "rows"});
  if (options.seq_len < 1) {
    throw UsageError(fmt::format("seq_len: expected at least 1, found {}", options.seq_len));
  }
  if (options.max_tokens < 0 || options.max_rows < 0) {
    throw UsageError(fmt::format("expected max_tokens and max_rows of at least 0, found {} and {}",
                                 options.max_tokens, options.max_rows));
  }
}

/// An initializer list would copy, and a shard only moves.
std::vector<TokenShard> single(TokenShard shard) {
  std::vector<TokenShard> shards;
  shards.push_back(std::move(shard));
  return shards;
}

}  // namespace

/// The documents in their order, BOS counted, as one long sequence of tokens.
struct RowSet::Stream {
  Stream(ShardList given_shards, const RowOptions& given_options, int32_t given_bos_id,
         int64_t given_vocab_size);

  int64_t num_tokens() const { return starts.back(); }
  void check_ids(std::span<const uint32_t> ids) const;
  Row row(int64_t number) const;

  ShardList shards;
  RowOptions options;
  int32_t bos_id;
  int64_t vocab_size;
  std::vector<int64_t> documents;  // their numbers in the shard, in the order of the stream
  std::vector<int64_t> starts;     // [documents + 1]: where each begins in the stream
};

RowSet::Stream::Stream(ShardList given_shards, const RowOptions& given_options,
                       int32_t given_bos_id, int64_t given_vocab_size)
    : shards(std::move(given_shards)),
      options(given_options),
      bos_id(given_bos_id),
      vocab_size(given_vocab_size) {
  check_options(options);
  const bool has_bos = options.bos == "document";
  if (has_bos && bos_id < 0) {
    fail("bos: the tokenizer has no BOS token; expected bos: none, found bos: document");
  }
  if (has_bos && bos_id >= vocab_size) {
    fail("bos: expected an id below the model's vocabulary of {}, found {}", vocab_size, bos_id);
  }
  const int64_t num_documents = shards.num_documents();
  if (options.order == "documents") {
    documents = Random(derive_seed(options.seed, "documents")).permutation(num_documents);
  } else {
    documents.resize(static_cast<size_t>(num_documents));
    std::iota(documents.begin(), documents.end(), 0);
  }
  starts.reserve(documents.size() + 1);
  starts.push_back(0);
  for (const int64_t document : documents) {
    const std::span<const uint32_t> ids = shards.document(document);
    check_ids(ids);
    starts.push_back(starts.back() + static_cast<int64_t>(ids.size()) + (has_bos ? 1 : 0));
  }
}

void RowSet::Stream::check_ids(std::span<const uint32_t> ids) const {
  uint32_t largest = 0;
  for (const uint32_t id : ids) largest = std::max(largest, id & ~kUncountedBit);
  if (!ids.empty() && static_cast<int64_t>(largest) >= vocab_size) {
    fail(
        "token ids: expected ids below the model's vocabulary of {}, found {}; is this the "
        "model's tokenizer?",
        vocab_size, largest);
  }
}

Row RowSet::Stream::row(int64_t number) const {
  const int64_t begin = number * options.seq_len, end = begin + options.seq_len;
  const int64_t num_bos = options.bos == "document" ? 1 : 0;
  const bool is_masked = shards.is_masked();
  Row row;
  row.tokens.reserve(static_cast<size_t>(options.seq_len));
  // The last document that starts at or before the row.
  size_t index = std::upper_bound(starts.begin(), starts.end(), begin) - starts.begin() - 1;
  for (int64_t position = begin; position < end; ++index) {
    const int64_t stop = std::min(end, starts[index + 1]);
    if (stop == position) continue;  // an empty document
    const std::span<const uint32_t> ids = shards.document(documents[index]);
    int64_t within = position - starts[index];
    row.segment_lengths.push_back(stop - position);
    if (within < num_bos) {
      row.tokens.push_back(bos_id);
      if (is_masked) row.counted.push_back(0);
      ++within;
    }
    // `within` counts BOS.
    const auto part = ids.subspan(within - num_bos, stop - starts[index] - within);
    // Again, because the mapped file could have changed: a wrong id would read outside the model.
    check_ids(part);
    for (const uint32_t id : part) row.tokens.push_back(id & ~kUncountedBit);
    if (is_masked) {
      for (const uint32_t id : part) row.counted.push_back((id & kUncountedBit) == 0 ? 1 : 0);
    }
    position = stop;
  }
  if (options.borders == "none") row.segment_lengths = {options.seq_len};
  return row;
}

RowSet::RowSet(TokenShard shard, const RowOptions& options, int32_t bos_id, int64_t vocab_size)
    : RowSet(single(std::move(shard)), options, bos_id, vocab_size) {}

RowSet::RowSet(std::vector<TokenShard> shards, const RowOptions& options, int32_t bos_id,
               int64_t vocab_size)
    : stream_(std::make_shared<const Stream>(ShardList(std::move(shards)), options, bos_id,
                                             vocab_size)) {
  int64_t tokens = stream_->num_tokens();
  if (options.max_tokens > 0) tokens = std::min(tokens, options.max_tokens);
  const int64_t num_rows = tokens / options.seq_len;
  if (num_rows == 0) {
    fail("rows: expected at least one row of {} tokens, found a text of {} tokens", options.seq_len,
         tokens);
  }
  if (options.order == "rows") {
    order_ = Random(derive_seed(options.seed, "rows")).permutation(num_rows);
  } else {
    order_.resize(static_cast<size_t>(num_rows));
    std::iota(order_.begin(), order_.end(), 0);
  }
  if (options.max_rows > 0 && options.max_rows < num_rows) {
    order_.resize(static_cast<size_t>(options.max_rows));
  }
}

Row RowSet::row(int64_t index) const {
  if (index < 0 || index >= size()) {
    fail("rows: expected an index from 0 to {}, found {}", size() - 1, index);
  }
  return stream_->row(order_[static_cast<size_t>(index)]);
}

const RowOptions& RowSet::options() const {
  return stream_->options;
}

const std::string& RowSet::shard_key() const {
  return stream_->shards.key();
}

std::string RowSet::key() const {
  const RowOptions& how = options();
  ContentHash hash;
  hash.add(shard_key()).add(how.borders).add(how.bos).add(how.order);
  hash.add(fmt::format("{} {}", how.seq_len, how.order == "documents" ? how.seed : 0));
  hash.add(std::as_bytes(std::span(order_)));
  return hash.hex();
}

const std::vector<TokenShard>& RowSet::shards() const {
  return stream_->shards.shards();
}

RowSet RowSet::split_off_last(int64_t count) {
  if (count < 1 || count >= size()) {
    fail("rows: expected to set 1 to {} of {} rows apart, found {}", size() - 1, size(), count);
  }
  RowSet apart = part(size() - count, count);
  order_.resize(order_.size() - static_cast<size_t>(count));
  return apart;
}

RowSet RowSet::part(int64_t first, int64_t count) const {
  if (first < 0 || count < 1 || first + count > size()) {
    fail("rows: expected a part of 0 … {}, found {} row(s) from {}", size(), count, first);
  }
  RowSet rows = *this;
  rows.order_.assign(order_.begin() + first, order_.begin() + first + count);
  return rows;
}

}  // namespace tigon
