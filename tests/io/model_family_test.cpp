// What the families imply, and which published folders are read.
#include "io/model_family.h"

#include "core/error.h"
#include "io/model_config.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

Json config_of(const std::string& family) {
  return {{"model_type", family},     {"vocab_size", 100},
          {"hidden_size", 64},        {"intermediate_size", 48},
          {"num_hidden_layers", 3},   {"num_attention_heads", 32},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
}

ModelConfig parse(const Json& json) {
  return parse_model_config(json, "config.json");
}

using Windows = std::vector<int64_t>;

}  // namespace

TEST_CASE("families: absent keys mean what transformers takes for them") {
  const auto without = [](const std::string& family, const std::string& key) {
    Json json = config_of(family);
    json.erase(key);
    return parse(json);
  };
  CHECK(without("llama", "num_key_value_heads").num_kv_heads == 32);
  CHECK(without("mistral", "num_key_value_heads").num_kv_heads == 8);
  CHECK(without("qwen2", "num_key_value_heads").num_kv_heads == 32);
  CHECK(without("mistral", "max_position_embeddings").max_position_embeddings == 131072);
  CHECK(without("qwen3", "max_position_embeddings").max_position_embeddings == 32768);
  CHECK(parse(config_of("qwen2")).head_dim == 2);
  CHECK(parse(config_of("qwen3")).head_dim == 128);
  Json null_heads = config_of("mistral");
  null_heads["num_key_value_heads"] = nullptr;
  CHECK(parse(null_heads).num_kv_heads == 32);
}

TEST_CASE("families: biases and head norms") {
  CHECK_FALSE(parse(config_of("llama")).has_qkv_bias);
  CHECK_FALSE(parse(config_of("llama")).has_qk_norm);
  CHECK(parse(config_of("qwen2")).has_qkv_bias);
  CHECK_FALSE(parse(config_of("qwen2")).has_output_bias);
  CHECK(parse(config_of("qwen3")).has_qk_norm);
  CHECK_FALSE(parse(config_of("qwen3")).has_qkv_bias);
  Json json = config_of("llama");
  json["attention_bias"] = true;
  CHECK(parse(json).has_qkv_bias);
  CHECK(parse(json).has_output_bias);
  CHECK_FALSE(parse(json).has_mlp_bias);
  json["mlp_bias"] = true;
  CHECK(parse(json).has_mlp_bias);
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    Json wrong = config_of("mistral");
    wrong[key] = true;
    check_refused<Error>([&] { parse(wrong); },
                         std::string(key) + ": expected false in a mistral, found true");
  }
}

TEST_CASE("families: the teacher's own sliding windows") {
  CHECK(parse(config_of("llama")).layer_windows.empty());
  Json mistral = config_of("mistral");
  CHECK(parse(mistral).layer_windows == Windows{4096, 4096, 4096});
  mistral["sliding_window"] = 16;
  CHECK(parse(mistral).layer_windows == Windows{16, 16, 16});
  mistral["sliding_window"] = nullptr;
  CHECK(parse(mistral).layer_windows.empty());
  mistral["sliding_window"] = 0;
  check_refused<Error>([&] { parse(mistral); }, "sliding_window: expected an integer from 1");

  Json qwen = config_of("qwen3");
  qwen["sliding_window"] = 16;
  qwen["max_window_layers"] = 2;
  CHECK(parse(qwen).layer_windows.empty());
  qwen["use_sliding_window"] = true;
  CHECK(parse(qwen).layer_windows == Windows{0, 0, 16});
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  CHECK(parse(qwen).layer_windows == Windows{16, 0, 16});
  qwen["use_sliding_window"] = false;
  check_refused<Error>([&] { parse(qwen); },
                       "layer_types: expected use_sliding_window and sliding_window beside");
  qwen["layer_types"] = {"full_attention", "full_attention"};
  check_refused<Error>([&] { parse(qwen); }, "layer_types: expected a list of 3 names, found 2");
  qwen["layer_types"] = {"full_attention", "linear_attention", "full_attention"};
  check_refused<Error>([&] { parse(qwen); }, "expected full_attention or sliding_attention");
}

TEST_CASE("families: published configs") {
  TIGON_SHARED_OR_SKIP(configs, "configs");
  const ModelConfig mistral = read_model_config(configs / "Mistral-7B-v0.1");
  CHECK(mistral.layer_windows == Windows(32, 4096));
  CHECK(mistral.num_kv_heads == 8);
  CHECK(mistral.head_dim == 128);
  const ModelConfig instruct = read_model_config(configs / "Mistral-7B-Instruct-v0.3");
  CHECK(instruct.layer_windows.empty());
  CHECK(instruct.rope.theta == 1e6);
  const ModelConfig qwen2 = read_model_config(configs / "Qwen2-1.5B-Instruct");
  CHECK(qwen2.has_qkv_bias);
  CHECK(qwen2.tie_word_embeddings);
  CHECK(qwen2.layer_windows.empty());
  CHECK(read_model_config(configs / "Qwen2.5-7B-Instruct").num_heads == 28);
  const ModelConfig qwen3 = read_model_config(configs / "Qwen3-8B");
  CHECK(qwen3.has_qk_norm);
  CHECK(qwen3.head_dim == 128);
  CHECK(qwen3.layer_windows == Windows(36, 0));
  const ModelConfig meta = read_model_config(configs / "Meta-Llama-3-8B");
  CHECK(meta.intermediate_size == 14336);
  CHECK(meta.num_kv_heads == 8);
  CHECK(meta.max_position_embeddings == 8192);
  CHECK(meta.rope.theta == 500000.0);
}
