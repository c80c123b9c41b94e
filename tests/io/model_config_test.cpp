#include "io/model_config.h"

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

Json small_config() {
  return {{"model_type", "llama"},         {"vocab_size", 100},      {"hidden_size", 32},
          {"intermediate_size", 48},       {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"max_position_embeddings", 64}, {"rms_norm_eps", 1e-5}};
}

ModelConfig parse(const Json& json) {
  return parse_model_config(json, "config.json");
}

}  // namespace

TEST_CASE("model config: defaults of absent keys are those of transformers") {
  Json json = small_config();
  json.erase("max_position_embeddings");
  json.erase("rms_norm_eps");
  const ModelConfig config = parse(json);
  CHECK(config.model_type == "llama");
  CHECK(config.num_kv_heads == 4);
  CHECK(config.head_dim == 8);
  CHECK(config.max_position_embeddings == 2048);
  CHECK(config.rms_norm_eps == 1e-6);
  CHECK(config.initializer_range == 0.02);
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK(config.rope.type == "default");
  CHECK(config.rope.theta == 10000.0);
  CHECK(config.dtype.empty());
  CHECK(config.bos_token_ids.empty());
  CHECK(config.eos_token_ids.empty());
  CHECK(config.linearize.is_null());
  CHECK(config.raw == json);
}

TEST_CASE(
    "model config: ids are one or several, head_dim is given or implied, dtype has two names") {
  Json json = small_config();
  json["bos_token_id"] = 1;
  json["eos_token_id"] = {2, 99};
  json["head_dim"] = 16;
  json["dtype"] = "bfloat16";
  ModelConfig config = parse(json);
  CHECK(config.bos_token_ids == std::vector<int64_t>{1});
  CHECK(config.eos_token_ids == std::vector<int64_t>{2, 99});
  CHECK(config.head_dim == 16);
  CHECK(config.dtype == "bfloat16");
  json.erase("dtype");
  json["torch_dtype"] = "float16";
  json["head_dim"] = nullptr;
  config = parse(json);
  CHECK(config.dtype == "float16");
  CHECK(config.head_dim == 8);
}

TEST_CASE("model config: old and new spelling of rotary scaling mean the same") {
  Json json = small_config();
  const Json block = {{"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 8192}};
  const auto check = [](const Json& with_rope) {
    const RopeConfig rope = parse(with_rope).rope;
    CHECK(rope.type == "llama3");
    CHECK(rope.theta == 500000.0);
    CHECK(rope.factor == 8.0);
    CHECK(rope.low_freq_factor == 1.0);
    CHECK(rope.high_freq_factor == 4.0);
    CHECK(rope.original_max_position_embeddings == 8192);
  };
  for (const char* type : {"type", "rope_type"}) {
    Json old = json;
    old["rope_theta"] = 500000.0;
    old["rope_scaling"] = block;
    old["rope_scaling"][type] = "llama3";
    check(old);
  }
  Json newer = json;
  newer["rope_parameters"] = block;
  newer["rope_parameters"]["rope_type"] = "llama3";
  newer["rope_parameters"]["rope_theta"] = 500000.0;
  check(newer);
  newer["rope_theta"] = 500000.0;
  newer["rope_scaling"] = newer["rope_parameters"];
  check(newer);
}

TEST_CASE("model config: linear scaling, and parameters that say there is none") {
  Json json = small_config();
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  CHECK(parse(json).rope.type == "linear");
  CHECK(parse(json).rope.factor == 2.0);
  json["rope_scaling"] = nullptr;
  CHECK(parse(json).rope.type == "default");
  json["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "default"}};
  CHECK(parse(json).rope.theta == 5000.0);
}

TEST_CASE("model config: a linearized folder keeps its block and its base's family") {
  Json json = small_config();
  json["model_type"] = "tigon";
  json["base_model_type"] = "llama";
  json["linearize"] = {{"recipe", "liger-gla"}, {"mix", 0.5}};
  const ModelConfig config = parse(json);
  CHECK(config.model_type == "llama");
  CHECK(config.linearize == json["linearize"]);
}

TEST_CASE("model config: what tigon writes, it reads back") {
  for (const char* rope_type : {"default", "linear", "dynamic", "llama3", "yarn"}) {
    ModelConfig config = parse(small_config());
    config.num_kv_heads = 2;
    config.head_dim = 10;
    config.tie_word_embeddings = true;
    config.dtype = "bfloat16";
    config.bos_token_ids = {1};
    config.eos_token_ids = {2, 3};
    config.rope.type = rope_type;
    config.rope.theta = 12345.0;
    if (config.rope.type != "default") config.rope.factor = 4.0;
    if (config.rope.type == "llama3") config.rope.original_max_position_embeddings = 16;
    if (config.rope.type == "yarn") {
      config.rope.original_max_position_embeddings = 16;
      config.rope.beta_fast = 20;
      config.rope.attention_factor = 1.5;
      config.rope.truncate = false;
    }
    if (config.rope.type == "dynamic") {
      config.rope.original_max_position_embeddings = config.max_position_embeddings;
    }
    const Json json = llama_config_json(config);
    const ModelConfig found = parse(parse_json(json.dump(), "config.json"));
    CHECK(found.raw == json);
    CHECK(llama_config_json(found) == json);
    CHECK(found.num_kv_heads == 2);
    CHECK(found.head_dim == 10);
    CHECK(found.tie_word_embeddings);
    CHECK(found.rope.type == rope_type);
    CHECK(found.rope.theta == 12345.0);
    CHECK(found.rope.factor == config.rope.factor);
    CHECK(found.rope.beta_fast == config.rope.beta_fast);
    CHECK(found.rope.attention_factor == config.rope.attention_factor);
    CHECK(found.rope.truncate == config.rope.truncate);
    CHECK(found.rope.original_max_position_embeddings ==
          config.rope.original_max_position_embeddings);
    CHECK(found.eos_token_ids == config.eos_token_ids);
    CHECK(found.rms_norm_eps == 1e-5);
  }
}

TEST_CASE("model config: folders that hold none") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { read_model_config(folder / "absent"); },
                       "absent: expected a model folder, found nothing");
  check_refused<Error>([&] { read_model_config(folder.path()); },
                       "expected a model folder in Hugging Face's form, found no config.json");
  folder.write("params.json", "{}");
  check_refused<Error>([&] { read_model_config(folder.path()); },
                       "params.json: dim: expected an integer");
  folder.write("config.json", "{\"model_type\": \"llama\"");
  check_refused<Error>([&] { read_model_config(folder.path()); }, "config.json: not valid JSON");
}

TEST_CASE("model config: published Llama configs") {
  TIGON_SHARED_OR_SKIP(configs, "configs");
  const ModelConfig llama2 = read_model_config(configs / "Llama-2-7b-hf");
  CHECK(llama2.head_dim == 128);
  CHECK(llama2.num_kv_heads == 32);
  CHECK(llama2.rope.type == "default");
  CHECK(llama2.rope.theta == 10000.0);
  CHECK(llama2.dtype == "float16");
  const ModelConfig llama31 = read_model_config(configs / "Llama-3.1-8B-Instruct");
  CHECK(llama31.num_kv_heads == 8);
  CHECK(llama31.rope.type == "llama3");
  CHECK(llama31.rope.theta == 500000.0);
  CHECK(llama31.eos_token_ids == std::vector<int64_t>{128001, 128008, 128009});
  CHECK(read_model_config(configs / "Llama-3.1-8B").rope.factor == 8.0);
  const ModelConfig llama32 = read_model_config(configs / "Llama-3.2-1B");
  CHECK(llama32.tie_word_embeddings);
  CHECK(llama32.rope.factor == 32.0);
  CHECK(llama32.head_dim == 64);
}

TEST_CASE("model config: the example model with newer keys") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  const ModelConfig config = read_model_config(folder);
  CHECK(config.vocab_size == 8192);
  CHECK(config.hidden_size == 512);
  CHECK(config.intermediate_size == 1280);
  CHECK(config.num_layers == 8);
  CHECK(config.num_heads == 8);
  CHECK(config.num_kv_heads == 2);
  CHECK(config.head_dim == 64);
  CHECK(config.tie_word_embeddings);
  CHECK(config.dtype == "bfloat16");
  CHECK(config.rope.type == "default");
}
