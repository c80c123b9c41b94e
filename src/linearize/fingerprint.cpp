#include <algorithm>
#include <span>

#include "data/content_hash.h"
#include "io/model_config.h"
#include "io/safetensors.h"
#include "linearize/adapter_plan.h"
#include "linearize/mixer_parameters.h"

namespace tigon {
namespace {

// Pieces read of each tensor, evenly spread: enough to tell trainings apart, little enough for 16
// GB.
constexpr size_t kPieces = 16;
constexpr size_t kPieceBytes = 4096;

/// A number by its bytes.
void add_number(ContentHash& hash, double number) {
  hash.add(std::as_bytes(std::span(&number, 1)));
}

void add_config(ContentHash& hash, const ModelConfig& config) {
  hash.add(config.model_type);
  hash.add(config.rope.type);
  for (const int64_t size :
       {config.vocab_size, config.hidden_size, config.intermediate_size, config.num_layers,
        config.num_heads, config.num_kv_heads, config.head_dim,
        config.rope.original_max_position_embeddings, int64_t{config.tie_word_embeddings}}) {
    add_number(hash, static_cast<double>(size));
  }
  for (const double number :
       {config.rms_norm_eps, config.rope.theta, config.rope.factor, config.rope.low_freq_factor,
        config.rope.high_freq_factor, config.rope.beta_fast, config.rope.beta_slow,
        config.rope.attention_factor, config.rope.mscale, config.rope.mscale_all_dim}) {
    add_number(hash, number);
  }
  for (const int64_t window : config.layer_windows) add_number(hash, static_cast<double>(window));
}

void add_tensor(ContentHash& hash, const std::string& name, const TensorView& view) {
  hash.add(name);
  hash.add(safetensors_name(view.dtype));
  for (const int64_t size : view.shape) add_number(hash, static_cast<double>(size));
  const std::span<const std::byte> bytes(view.data, view.bytes);
  if (view.bytes <= kPieces * kPieceBytes) {
    hash.add(bytes);
    return;
  }
  for (size_t piece = 0; piece < kPieces; ++piece) {
    const size_t start = (view.bytes - kPieceBytes) / (kPieces - 1) * piece;
    hash.add(bytes.subspan(start, kPieceBytes));
  }
}

/// Tensors that a conversion drops or adds are not what identifies the base.
bool belongs_to_base(const std::string& name, const ModelConfig& config) {
  if (is_mixer_parameter(name) || name.ends_with("rotary_emb.inv_freq")) return false;
  return !(config.tie_word_embeddings && name == "lm_head.weight");
}

}  // namespace

std::string checkpoint_fingerprint(const std::filesystem::path& folder) {
  const ModelConfig config = read_model_config(folder);
  const Checkpoint checkpoint(folder);
  ContentHash hash;
  add_config(hash, config);
  for (const auto& [name, view] : checkpoint.tensors()) {
    if (belongs_to_base(name, config)) add_tensor(hash, name, *view);
  }
  return hash.hex();
}

}  // namespace tigon
