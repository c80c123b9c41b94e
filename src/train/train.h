// A whole run: load, convert, adapt, train, evaluate, export.
#pragma once
#include "io/json_file.h"
#include "train/config.h"

namespace tigon {

struct TrainOutcome {
  int interrupted_by = 0;  // signal after a saved checkpoint, or 0
  Json run;                // what run.json says
  std::string summary;     // the result for people: the table and where things are
};

/// Runs (or resumes) a config and writes the run folder (design.md §3). The result that is
/// evaluated and exported is the checkpoint with the best validation loss, or the last one where
/// nothing was validated. A run that is complete already is left alone.
TrainOutcome run_training(const RunConfig& config, bool resume);

/// Parameters, memory and time expected, as text. Loads the model and the data and times two steps;
/// writes nothing but the cache of tokenized text.
std::string dry_run(const RunConfig& config);

}  // namespace tigon
