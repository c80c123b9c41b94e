// Impossible and unsupported values of config.json: each message names the key, what was expected
// and what was found.
#include <string>

#include "core/error.h"
#include "io/model_config.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// A correct config with one key replaced must be refused.
void check_key_refused(const std::string& key, const Json& value, const std::string& message) {
  Json json = {{"model_type", "llama"},    {"vocab_size", 100},
               {"hidden_size", 32},        {"intermediate_size", 48},
               {"num_hidden_layers", 2},   {"num_attention_heads", 4},
               {"num_key_value_heads", 2}, {"max_position_embeddings", 64},
               {"rms_norm_eps", 1e-5}};
  CHECK_NOTHROW(parse_model_config(json, "config.json"));
  json[key] = value;
  check_refused<Error>([&] { parse_model_config(json, "config.json"); }, "config.json: " + message);
}

void check_rope_refused(const Json& block, const std::string& message) {
  check_key_refused("rope_scaling", block, "rope_scaling" + message);
}

}  // namespace

TEST_CASE("model config: sizes that are absent, of another type, zero, negative or absurd") {
  for (const std::string key : {"vocab_size", "hidden_size", "intermediate_size",
                                "num_hidden_layers", "num_attention_heads"}) {
    check_key_refused(key, nullptr, key + ": expected an integer from 1 to ");
    for (const Json& value : {Json(0), Json(-4), Json(4.0), Json("4"), Json(int64_t{1} << 40),
                              Json(UINT64_MAX), Json::array({4})}) {
      check_key_refused(key, value, key + ": expected an integer from 1 to ");
    }
  }
  check_key_refused("vocab_size", -4,
                    "vocab_size: expected an integer from 1 to 16777216, found -4");
  check_key_refused("vocab_size", nullptr,
                    "vocab_size: expected an integer from 1 to 16777216, found nothing");
  check_key_refused("max_position_embeddings", 0, "max_position_embeddings: expected an integer");
}

TEST_CASE("model config: heads that do not divide") {
  check_key_refused("num_attention_heads", 5,
                    "num_key_value_heads: expected a divisor of num_attention_heads 5, found 2");
  check_key_refused("num_key_value_heads", 3,
                    "num_key_value_heads: expected a divisor of num_attention_heads 4, found 3");
  check_key_refused("num_key_value_heads", 8,
                    "num_key_value_heads: expected a divisor of num_attention_heads 4, found 8");
  check_key_refused("hidden_size", 34,
                    "num_attention_heads: expected a divisor of hidden_size 34 (or a head_dim), "
                    "found 4");
  check_key_refused("hidden_size", 2, "num_attention_heads: expected a divisor of hidden_size 2");
  check_key_refused("head_dim", 7, "head_dim: expected an even number");
  check_key_refused("hidden_size", 12, "head_dim: expected an even number");
  check_key_refused("head_dim", 0, "head_dim: expected an integer from 1 to 4096, found 0");
}

TEST_CASE("model config: numbers that are not finite and positive") {
  check_key_refused("rms_norm_eps", 0, "rms_norm_eps: expected a finite number > 0, found 0");
  check_key_refused("rms_norm_eps", 1.5, "rms_norm_eps: expected a number < 1, found 1.5");
  check_key_refused("rms_norm_eps", "1e-5", "rms_norm_eps: expected a finite number > 0");
  check_key_refused("initializer_range", -1, "initializer_range: expected a finite number > 0");
  check_key_refused("rope_theta", -10000, "rope_theta: expected a finite number > 0");
}

TEST_CASE("model config: ids out of range") {
  check_key_refused("eos_token_id", 100,
                    "eos_token_id: expected an integer from 0 to 99, or a list of them, found 100");
  check_key_refused("eos_token_id", {2, -1},
                    "eos_token_id: expected an integer from 0 to 99, or a list of them, found -1");
  check_key_refused("bos_token_id", "<s>", "bos_token_id: expected an integer from 0 to 99");
}

TEST_CASE("model config: what tigon does not compute") {
  check_key_refused("hidden_act", "gelu", "hidden_act: expected silu");
  check_key_refused("attention_bias", 1, "attention_bias: expected true or false");
  check_key_refused("mlp_bias", "no", "mlp_bias: expected true or false, found \"no\"");
  check_key_refused("quantization_config", {{"bits", 4}}, "quantization_config: expected none");
  check_key_refused("dtype", "float8",
                    "dtype: expected float32, bfloat16 or float16, found float8");
  check_key_refused("tie_word_embeddings", 1, "tie_word_embeddings: expected true or false");
}

TEST_CASE("model config: families") {
  for (const char* family : {"mixtral", "gpt2", "Llama"}) {
    check_key_refused("model_type", family,
                      std::string("model_type: the family ") + family +
                          " is not supported (llama, mistral, qwen2, qwen3 are)");
  }
  check_key_refused("model_type", nullptr, "model_type: expected a text, found nothing");
  check_key_refused("model_type", 3, "model_type: expected a text, found 3");
  check_key_refused("model_type", "tigon", "base_model_type: expected a text, found nothing");
  check_key_refused("linearize", Json::object(),
                    "linearize: expected no such block beside model_type llama");
  const auto refuse_tigon = [](const Json& json, const std::string& message) {
    check_refused<Error>([&] { parse_model_config(json, "config.json"); }, message);
  };
  refuse_tigon({{"model_type", "tigon"}, {"base_model_type", "gpt2"}},
               "base_model_type: the family gpt2 is not supported");
  refuse_tigon({{"model_type", "tigon"}, {"base_model_type", "llama"}},
               "linearize: expected the block that says how the model was linearized");
  refuse_tigon(Json::array(), "config.json: expected a JSON object, found []");
}

TEST_CASE("model config: rotary scaling") {
  check_rope_refused("linear", ": expected an object, found \"linear\"");
  check_rope_refused({{"rope_type", "longrope"}},
                     ".rope_type: expected one of default, linear, dynamic, llama3, yarn, found "
                     "longrope");
  check_rope_refused({{"rope_type", "yarn"}, {"factor", 4}, {"beta_fast", 1}, {"beta_slow", 2}},
                     ".beta_fast: expected more than beta_slow, 2, found 1");
  check_rope_refused({{"rope_type", "yarn"}, {"factor", 4}, {"attention_factor", -1}},
                     ".attention_factor: expected a finite number > 0");
  check_rope_refused({{"type", "linear"}, {"rope_type", "llama3"}},
                     ".rope_type: expected the same as \"type\", linear, found llama3");
  check_rope_refused({{"type", "linear"}}, ".factor: expected a finite number > 0, found nothing");
  check_rope_refused({{"type", "linear"}, {"factor", 0.5}},
                     ".factor: expected a number ≥ 1, found 0.5");
  check_rope_refused({{"type", "linear"}, {"factor", 2}, {"short_factor", 0.1}},
                     ".short_factor: expected only type, rope_type,");
  check_rope_refused({{"type", "default"}, {"partial_rotary_factor", 0.5}},
                     ".partial_rotary_factor: expected 1");
  Json llama3 = {{"rope_type", "llama3"},
                 {"factor", 8},
                 {"low_freq_factor", 1},
                 {"high_freq_factor", 4},
                 {"original_max_position_embeddings", 8192}};
  for (const std::string key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    Json without = llama3;
    without.erase(key);
    check_rope_refused(without, "." + key + ": expected ");
  }
  llama3["high_freq_factor"] = 1;
  check_rope_refused(llama3, ".high_freq_factor: expected more than low_freq_factor, 1, found 1");
}

TEST_CASE("model config: two spellings of rotary scaling that disagree") {
  const Json block = {{"rope_type", "linear"}, {"factor", 2}, {"rope_theta", 10000}};
  Json json = {{"model_type", "llama"},    {"vocab_size", 100},      {"hidden_size", 32},
               {"intermediate_size", 48},  {"num_hidden_layers", 2}, {"num_attention_heads", 4},
               {"rope_parameters", block}, {"rope_theta", 10000}};
  CHECK_NOTHROW(parse_model_config(json, "config.json"));
  json["rope_theta"] = 20000;
  check_refused<Error>([&] { parse_model_config(json, "config.json"); },
                       "rope_theta: expected the same as in rope_parameters, 10000, found 20000");
  json["rope_theta"] = 10000;
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 4}};
  check_refused<Error>([&] { parse_model_config(json, "config.json"); },
                       "rope_scaling: expected nothing beside rope_parameters, or the same");
}
