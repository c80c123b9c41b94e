#include "model/forward.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "model/decoder_layer.h"
#include "ops/rms_norm/rms_norm.h"

namespace tigon {
namespace {

/// Throws Error naming the position of a token id outside the vocabulary; ids are looked at on the
/// host.
void check_token_ids(const Batch& batch, int64_t vocab_size) {
  const at::Tensor ids = batch.host_tokens.defined() ? batch.host_tokens : batch.tokens.cpu();
  if (ids.numel() == 0) return;
  const auto [lowest, highest] = ids.aminmax();
  if (lowest.item<int64_t>() >= 0 && highest.item<int64_t>() < vocab_size) return;
  const int64_t position = at::logical_or(ids < 0, ids >= vocab_size).nonzero()[0].item<int64_t>();
  fail("token {} of the batch: expected an id from 0 to {} (vocabulary of {}), found {}", position,
       vocab_size - 1, vocab_size, ids[position].item<int64_t>());
}

void check_fits(const Model& model, const MixerStack& stack, const Batch& batch,
                const ForwardOptions& options) {
  TORCH_INTERNAL_ASSERT(stack.size() == model.weights.layers.size(), "a stack of ", stack.size(),
                        " mixers over ", model.weights.layers.size(), " layers");
  TORCH_INTERNAL_ASSERT(options.state == nullptr || options.kept == Kept::kEverything,
                        "layers cannot be run again over a state that has moved on");
  if (options.state != nullptr) options.state->check(batch);
  check_token_ids(batch, model.config.vocab_size);
}

/// The model's rotary embedding, or the one that the batch's longest sequence asks for.
Rotary rotary_of(const Model& model, const Batch& batch) {
  int64_t longest = 0;
  for (size_t i = 0; i < batch.segments.lengths.size(); ++i) {
    const int64_t past = batch.past_lengths.empty() ? 0 : batch.past_lengths[i];
    longest = std::max(longest, past + batch.segments.lengths[i]);
  }
  if (!depends_on_length(model.config.rope, longest)) return model.rotary;
  return make_rotary(model.config.rope, model.config.head_dim, model.device, longest);
}

}  // namespace

at::Tensor forward_hidden(const Model& model, const MixerStack& stack, const Batch& batch,
                          const ForwardOptions& options) {
  check_fits(model, stack, batch, options);
  const double eps = model.config.rms_norm_eps;
  const auto context = std::make_shared<const LayerContext>(LayerContext{
      .batch = batch,
      .rotary = rotary_of(model, batch),
      .rms_norm_eps = eps,
      .use_adapters = options.use_adapters,
  });
  RingIndexes rings(context->batch);
  const Kept kept = at::GradMode::is_enabled() ? options.kept : Kept::kEverything;

  at::Tensor x = at::embedding(model.weights.embed_tokens, batch.tokens).to(model.compute_dtype);
  for (size_t i = 0; i < stack.size(); ++i) {
    const DecoderLayer layer{
        context,
        options.load_layer ? options.load_layer(static_cast<int64_t>(i)) : model.weights.layers[i],
        stack[i]};
    if (kept == Kept::kLayerInputs) {
      x = layer.forward_recomputed(x, options.dropout_generator);
    } else if (kept == Kept::kAllButMlp) {
      x = layer.forward_with_mlp_recomputed(x, options.dropout_generator);
    } else if (options.state != nullptr) {
      x = layer.forward(x, &rings, &options.state->layer(static_cast<int64_t>(i)),
                        options.dropout_generator);
    } else {
      x = layer.forward(x, nullptr, nullptr, options.dropout_generator);
    }
  }
  if (options.state != nullptr) options.state->advance(batch);
  return rms_norm(x, model.weights.norm.to(x.scalar_type()), eps);
}

at::Tensor logits_of(const Model& model, const at::Tensor& hidden) {
  return at::linear(hidden, model.weights.lm_head.to(hidden.scalar_type())).to(at::kFloat);
}

Model load_model(const std::filesystem::path& folder, at::ScalarType dtype, at::Device device) {
  Model model;
  model.config = read_model_config(folder);
  model.weights = load_weights(Checkpoint(folder), model.config, dtype, device);
  model.rotary = make_rotary(model.config.rope, model.config.head_dim, device);
  model.compute_dtype = dtype;
  model.device = device;
  return model;
}

}  // namespace tigon
