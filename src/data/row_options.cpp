#include "data/rows.h"

namespace tigon {

RowOptions read_row_options(ConfigReader& reader, const RowOptions& defaults) {
  // A row needs a token and the one after it; the upper bound keeps typing errors out of memory.
  constexpr double kMinSeqLen = 2, kMaxSeqLen = 1 << 24;
  RowOptions options;
  options.seq_len = reader.integer("seq_len", defaults.seq_len, between(kMinSeqLen, kMaxSeqLen));
  options.borders = reader.choice("borders", {"none", "documents"}, defaults.borders);
  options.bos = reader.choice("bos", {"document", "none"}, defaults.bos);
  options.order = reader.choice("order", {"file", "documents", "rows"}, defaults.order);
  options.seed = static_cast<uint64_t>(
      reader.integer("seed", static_cast<int64_t>(defaults.seed), at_least(0)));
  options.max_tokens = reader.integer("max_tokens", defaults.max_tokens, at_least(0));
  options.max_rows = reader.integer("max_rows", defaults.max_rows, at_least(0));
  return options;
}

}  // namespace tigon
