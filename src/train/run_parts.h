// Everything a run is made of: model, stack, trainable parameters, tokenizer and rows.
#pragma once
#include <memory>
#include <optional>

#include "data/mixture.h"
#include "data/tokenizer.h"
#include "train/parameters.h"

namespace tigon {

struct RunParts {
  LoadedModel loaded;
  Conversion conversion;
  std::vector<Parameter> parameters;
  ParameterTable table;
  // Where the loss has a teacher's part: the model without adapters, and its own mixers.
  std::optional<Model> teacher;
  MixerStack teacher_stack;
  MixerStack converted;  // the student's mixers as they were before training
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<Mixture> train_rows;
  std::optional<RowSet> validation_rows;  // the last held-out ones, looked at while training
  std::optional<RowSet> eval_rows;        // the first held-out ones, for the results
};

/// Loads or draws the model, converts it, makes parameters trainable, opens the data and shows the
/// teacher's attention on some rows to mixers that read something from it. Sets the
/// number of threads and, in the config, the rows of an epoch. Errors name the config's key.
RunParts build_run_parts(RunConfig& config);

/// The parts without tokenizer and rows: the model converted by the config's plan unless it is
/// linearized already, its parameters made trainable.
RunParts convert_for_training(const RunConfig& config, LoadedModel loaded);

/// Sets `teacher` and `teacher_stack`.
void set_teacher(RunParts& parts, Model teacher);

/// The teacher a run's results are compared with: the same weights where they stayed frozen, else
/// loaded again. nullopt where there is none (random models, models that were linearized before).
std::optional<Model> teacher_of(const RunConfig& config, const RunParts& parts);

/// Bytes of weights, adapters and new parameters.
int64_t model_bytes(const LoadedModel& loaded);

}  // namespace tigon
