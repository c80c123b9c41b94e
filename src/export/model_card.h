// README.md of an exported folder.
#pragma once
#include <string>

#include "export/hf_folder.h"

namespace tigon {

/// What the model is, how to run it and where it does not run, its mixers, and the measured table
/// if `options.results` has one. `name` is the folder's.
std::string model_card(const std::string& name, const LoadedModel& loaded,
                       const ConversionReport& report, const ExportOptions& options);

}  // namespace tigon
