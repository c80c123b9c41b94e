// Whether a written folder computes what the model in memory computes.
#pragma once
#include <filesystem>

#include "core/dtype.h"
#include "linearize/convert.h"

namespace tigon {

/// The largest relative RMS difference of logits that an export accepts, for weights written as
/// `written` and computed with in `compute`: 1e-3 if both are float32, 3e-2 in lower precision.
double merge_tolerance(DType written, at::ScalarType compute);

/// Runs the folder, a layer at a time, and compares its logits with those of `loaded` (adapters on)
/// on random tokens. Throws Error with both numbers if they differ by more than merge_tolerance().
void check_written_folder(const LoadedModel& loaded, const std::filesystem::path& folder,
                          DType written);

}  // namespace tigon
