// How many rows of a step go through the model at once.
#pragma once
#include "train/run_parts.h"

namespace tigon {

/// Where train.accumulate is auto, sets batch_rows and accumulate so that a step's rows fall into
/// as few equal micro-batches as the device's memory holds: from the whole step downwards each is
/// tried with a real step at rate 0, which changes no parameter. On the CPU, one micro-batch.
/// Throws Error if not even one row fits.
void choose_micro_batch(RunConfig& config, RunParts& parts);

}  // namespace tigon
