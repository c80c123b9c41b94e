#include "export/hf_config.h"

namespace tigon {

Json exported_config(const LoadedModel& loaded, DType dtype) {
  const ModelConfig& base = loaded.model.config;
  Json config = base.raw.is_object() ? base.raw : llama_config_json(base);
  // Newer files say "dtype" for what older ones call "torch_dtype".
  const bool is_old = config.contains("torch_dtype");
  if (is_old) config["torch_dtype"] = dtype_name(dtype);
  if (!is_old || config.contains("dtype")) config["dtype"] = dtype_name(dtype);
  if (loaded.plan.is_teacher()) return config;
  config["model_type"] = "tigon";
  config["base_model_type"] = base.model_type;
  config["architectures"] = Json::array({"TigonForCausalLM"});
  config["auto_map"] = {{"AutoConfig", "configuration_tigon.TigonConfig"},
                        {"AutoModelForCausalLM", "modeling_tigon.TigonForCausalLM"}};
  // What the family implies, so that modeling_tigon.py needs no table of families.
  config["base_layers"] = {
      {"qkv_bias", base.has_qkv_bias},           {"output_bias", base.has_output_bias},
      {"mlp_bias", base.has_mlp_bias},           {"qk_norm", base.has_qk_norm},
      {"windows", base.layer_windows},           {"head_dim", base.head_dim},
      {"num_key_value_heads", base.num_kv_heads}};
  config["linearize"] = plan_to_json(loaded.plan);
  return config;
}

}  // namespace tigon
