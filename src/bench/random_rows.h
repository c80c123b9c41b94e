// Rows of random tokens, for runs that need text but no particular one.
#pragma once
#include "data/mixture.h"

namespace tigon {

/// `rows` rows of seq_len uniformly random tokens below vocab_size, without borders. They go
/// through a token shard, as a corpus does: a file in the system's temporary folder that is gone
/// when the call returns, its content mapped into memory.
Mixture random_rows(int64_t rows, int64_t seq_len, int64_t vocab_size, uint64_t seed);

}  // namespace tigon
