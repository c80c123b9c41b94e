// linearize.json of an adapter folder: the mixers an adapter was trained with, and for which
// weights.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "linearize/plan.h"

namespace tigon {

struct AdapterPlan {
  Plan plan;
  std::string base_fingerprint;  // checkpoint_fingerprint() of the base; empty: it has no folder
};

/// Writes FOLDER/linearize.json.
void write_adapter_plan(const std::filesystem::path& folder, const AdapterPlan& adapter);
/// Reads FOLDER/linearize.json; nullopt if there is none (a plain peft adapter). Throws Error if
/// broken.
std::optional<AdapterPlan> read_adapter_plan(const std::filesystem::path& folder);

/// Identifies base weights: a hash over the config's sizes and the names, shapes and sampled bytes
/// of the tensors a base model consists of. A teacher and its untrained conversion have the same
/// one.
std::string checkpoint_fingerprint(const std::filesystem::path& folder);

}  // namespace tigon
