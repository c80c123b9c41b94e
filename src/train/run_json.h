// run.json: what was run, on what, and what came out.
#pragma once
#include "eval/comparison.h"
#include "train/run_parts.h"
#include "train/trainer_state.h"

namespace tigon {

/// The part that is known before the first step: versions, hardware, model, plan, data, parameters,
/// bytes of state a sequence for teacher and student, steps and tokens planned; `status` "running"
/// (later "interrupted", "complete", or "failed" with `error`).
Json describe_run(const RunConfig& config, const RunParts& parts);

/// Steps and tokens done, wall time, tokens a second, peak memory and the best validation so far.
void add_progress(Json& run, const TrainerState& state, const at::Device& device);

/// The loss of everything the run is judged by, on the evaluation rows: the whole comparison for a
/// linearized model with a teacher; otherwise "base" (where it is still there) and "trained".
/// With eval.decode the line "decoded" besides. Empty without held-out rows. With eval.known,
/// losses of the untrained weights are shared.
Comparison evaluate_results(const RunConfig& config, const RunParts& parts);

}  // namespace tigon
