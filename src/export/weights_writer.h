// A model's weights as safetensors under Hugging Face's names, adapters merged on the way out.
#pragma once
#include <filesystem>

#include "core/dtype.h"
#include "model/forward.h"

namespace tigon {

/// Writes model.safetensors, or numbered shards of at most `max_shard_bytes` with their index, into
/// an existing folder. Base parameters get `dtype`, those of mixers keep theirs. One tensor at a
/// time is merged and held. Weights held in less precision than `dtype` throw Error.
void write_merged_weights(const std::filesystem::path& folder, const Model& model,
                          const MixerStack& stack, DType dtype, int64_t max_shard_bytes);

}  // namespace tigon
