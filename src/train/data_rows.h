// The rows of a run: what it trains on, validates and evaluates with.
#pragma once
#include "data/tokenizer.h"
#include "train/run_parts.h"

namespace tigon {

/// Opens (tokenizing what is not in the cache) the data of a config into train_rows,
/// validation_rows and eval_rows, and tells the config how many rows an epoch has. Throws Error
/// where the data are too few for what is asked of them.
void open_data(RunConfig& config, const Tokenizer& tokenizer, int64_t vocab_size, RunParts& parts);

/// For run.json: the sources with their shards, documents, tokens, tokens that count, and what was
/// skipped why. `shards` in the order of the sources.
Json describe_sources(const std::vector<DataSource>& sources,
                      const std::vector<const TokenShard*>& shards);

}  // namespace tigon
