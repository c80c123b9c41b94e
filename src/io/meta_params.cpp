#include "io/meta_params.h"

#include "io/json_fields.h"

namespace tigon {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr int64_t kLlama3Vocabulary = 128256;

int64_t feed_forward_size(const JsonFields& fields, int64_t dim) {
  const int64_t multiple = fields.integer("multiple_of", 1, kMaxSize, 256);
  const double multiplier = fields.positive("ffn_dim_multiplier", 1.0);
  if (multiplier > 1000) {
    fields.refuse("ffn_dim_multiplier", "at most 1000", fmt::format("{}", multiplier));
  }
  const int64_t two_thirds = 2 * (4 * dim) / 3;
  const auto size = static_cast<int64_t>(multiplier * static_cast<double>(two_thirds));
  return (size + multiple - 1) / multiple * multiple;
}

}  // namespace

Json llama_config_of_meta_params(const Json& params, const std::string& source_name) {
  const JsonFields fields(params, source_name);
  if (fields.flag("use_scaled_rope", false)) {
    fields.refuse("use_scaled_rope",
                  "false (the scaling's numbers are only in the Hugging Face config.json)", "true");
  }
  const int64_t dim = fields.integer("dim", 1, kMaxSize);
  const int64_t num_heads = fields.integer("n_heads", 1, 4096);
  const int64_t vocab_size = fields.integer("vocab_size", 1, kMaxSize);
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", vocab_size},
          {"hidden_size", dim},
          {"intermediate_size", feed_forward_size(fields, dim)},
          {"num_hidden_layers", fields.integer("n_layers", 1, 4096)},
          {"num_attention_heads", num_heads},
          {"num_key_value_heads", fields.integer("n_kv_heads", 1, 4096, num_heads)},
          {"hidden_act", "silu"},
          {"max_position_embeddings", vocab_size == kLlama3Vocabulary ? 8192 : 4096},
          {"rms_norm_eps", fields.positive("norm_eps", 1e-5)},
          {"rope_theta", fields.positive("rope_theta", 10000.0)},
          {"tie_word_embeddings", false},
          {"torch_dtype", "bfloat16"}};
}

}  // namespace tigon
