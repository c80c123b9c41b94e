#include "model/weights.h"

#include <ATen/ATen.h>

#include <map>
#include <set>

#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Tensors = std::map<std::string, at::Tensor>;

Tensors named_parameters(const ModelWeights& weights) {
  Tensors tensors;
  visit_parameters(weights, [&](const std::string& name, const at::Tensor& parameter) {
    CHECK(tensors.emplace(name, parameter).second);
  });
  return tensors;
}

/// Writes a folder with these tensors and loads it.
ModelWeights load(const ModelConfig& config, const Tensors& tensors,
                  at::ScalarType dtype = at::kFloat) {
  const TemporaryFolder folder;
  write_json_file(folder / "config.json", llama_config_json(config));
  save_tensors(folder / "model.safetensors", {tensors.begin(), tensors.end()});
  return load_model(folder.path(), dtype, test_device()).weights;
}

void check_refused_weights(const ModelConfig& config, const Tensors& tensors,
                           const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    check_refused([&] { load(config, tensors); }, text);
  }
}

}  // namespace

TEST_CASE("A written model folder loads to the same weights") {
  const TemporaryFolder folder;
  const Model model = tiny_model();
  write_model_folder(model, folder.path());
  const Model loaded = load_model(folder.path(), at::kFloat, test_device());
  const Tensors expected = named_parameters(model.weights);
  const Tensors found = named_parameters(loaded.weights);
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, parameter] : expected) check_bitwise(name, found.at(name), parameter);
  CHECK(loaded.config.hidden_size == 48);
  CHECK(loaded.compute_dtype == at::kFloat);
  check_bitwise("frequencies", loaded.rotary.inverse_frequencies, model.rotary.inverse_frequencies);
}

TEST_CASE("Files of every floating-point type load to the wanted type") {
  const ModelConfig config = tiny_config();
  for (const at::ScalarType in_file : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const Tensors written = named_parameters(random_weights(config, 1, in_file, at::kCPU));
    for (const at::ScalarType wanted : {at::kFloat, at::kBFloat16}) {
      const ModelWeights loaded = load(config, written, wanted);
      check_bitwise("norm", loaded.norm, written.at("model.norm.weight").to(wanted));
      check_bitwise("down_proj", loaded.layers[1].down_proj.weight,
                    written.at("model.layers.1.mlp.down_proj.weight").to(wanted));
    }
  }
}

TEST_CASE("Missing, misshapen, integer and unknown tensors are all named in one message") {
  const ModelConfig config = tiny_config();
  Tensors tensors = named_parameters(random_weights(config, 1, at::kFloat, at::kCPU));
  tensors.erase("model.layers.1.self_attn.k_proj.weight");
  tensors["model.layers.0.mlp.up_proj.weight"] = at::zeros({48, 80});
  tensors["model.norm.weight"] = at::ones({48}, at::kInt);
  tensors["model.layers.2.input_layernorm.weight"] = at::ones({48});
  tensors["model.layers.0.self_attn.q_proj.bias"] = at::ones({64});
  check_refused_weights(
      config, tensors,
      {"the weights do not fit config.json, 5 problems",
       "model.layers.1.self_attn.k_proj.weight: missing, expected shape [32, 48]",
       "model.layers.0.mlp.up_proj.weight: expected shape [80, 48], found [48, 80]",
       "model.norm.weight: expected floating-point numbers, found int32",
       "model.layers.2.input_layernorm.weight: unknown tensor of shape [48]",
       "model.layers.0.self_attn.q_proj.bias: unknown tensor of shape [64]"});
}

TEST_CASE("Mixer parameters and old rotary buffers are left alone") {
  const ModelConfig config = tiny_config();
  Tensors tensors = named_parameters(random_weights(config, 1, at::kFloat, at::kCPU));
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::ones({8});
  tensors["model.layers.0.self_attn.mixer.gate.weight"] = at::ones({3});
  CHECK_NOTHROW(load(config, tensors));
}

TEST_CASE("A head beside tied embeddings is accepted only if it equals them") {
  const ModelConfig config = tiny_config(2, /*tie_word_embeddings=*/true);
  Tensors tensors = named_parameters(random_weights(config, 1, at::kFloat, at::kCPU));
  CHECK(tensors.count("lm_head.weight") == 0);
  CHECK(load(config, tensors).is_tied);

  const at::Tensor embedding = tensors.at("model.embed_tokens.weight");
  tensors["lm_head.weight"] = embedding;
  const ModelWeights loaded = load(config, tensors);
  CHECK(loaded.lm_head.is_same(loaded.embed_tokens));

  tensors["lm_head.weight"] = embedding + 1;
  check_refused_weights(config, tensors, {"lm_head.weight: config.json ties it"});
  tensors["lm_head.weight"] = embedding.narrow(0, 0, 5).clone();
  check_refused_weights(config, tensors, {"lm_head.weight: config.json ties it"});
}

TEST_CASE("Untied weights need their head") {
  const ModelConfig config = tiny_config();
  Tensors tensors = named_parameters(random_weights(config, 1, at::kFloat, at::kCPU));
  tensors.erase("lm_head.weight");
  check_refused_weights(config, tensors,
                        {"lm_head.weight: missing, expected shape [97, 48]", "1 problem\n"});
}

TEST_CASE("Random weights follow the seed, tensor by tensor, with the wanted spread") {
  ModelConfig config = tiny_config(8);
  config.vocab_size = 2000;
  const Tensors weights = named_parameters(random_weights(config, 1, at::kFloat, test_device()));
  const Tensors again = named_parameters(random_weights(config, 1, at::kFloat, test_device()));
  const Tensors other = named_parameters(random_weights(config, 2, at::kFloat, test_device()));
  const Tensors rounded = named_parameters(random_weights(config, 1, at::kBFloat16, test_device()));
  const auto spread = [&](const std::string& name) {
    return weights.at(name).std().item<double>();
  };
  for (const auto& [name, parameter] : weights) {
    check_bitwise(name, again.at(name), parameter);
    check_bitwise(name, rounded.at(name), parameter.to(at::kBFloat16));
    if (name.find("norm") != std::string::npos) {
      CHECK(at::equal(parameter, at::ones_like(parameter)));
    } else {
      CHECK_FALSE(at::equal(parameter, other.at(name)));
    }
  }
  CHECK(spread("model.embed_tokens.weight") == Approx(0.2).epsilon(0.05));
  CHECK(spread("model.layers.3.mlp.gate_proj.weight") == Approx(0.2).epsilon(0.05));
  CHECK(spread("model.layers.3.mlp.down_proj.weight") == Approx(0.05).epsilon(0.05));
  CHECK(spread("model.layers.3.self_attn.o_proj.weight") == Approx(0.05).epsilon(0.05));
  CHECK_FALSE(at::equal(weights.at("model.layers.0.self_attn.k_proj.weight"),
                        weights.at("model.layers.0.self_attn.v_proj.weight")));
}

TEST_CASE("Weights on the meta device have shapes and no storage") {
  const ModelWeights weights = meta_weights(tiny_config(), at::kBFloat16);
  for (const auto& [name, parameter] : named_parameters(weights)) {
    CHECK(parameter.is_meta());
    CHECK(parameter.scalar_type() == at::kBFloat16);
  }
  CHECK(weights.layers.at(0).k_proj.weight.sizes() == at::IntArrayRef({32, 48}));
}

TEST_CASE("Every linear layer is visited by its module name") {
  const Model model = tiny_model();
  std::set<std::string> names;
  visit_linears(model.weights, [&](const std::string& name, const Linear&) { names.insert(name); });
  CHECK(names.size() == 14);
  for (const std::string name : {"self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"}) {
    CHECK(names.contains("model.layers.1." + name));
  }
}

TEST_CASE("A clone shares no storage, keeps ties and copies adapters") {
  Model model = random_model(tiny_config(2, /*tie_word_embeddings=*/true));
  Linear& linear = model.weights.layers[0].q_proj;
  linear.adapter = Adapter{.a = random_tensor({2, 48}, 1), .b = random_tensor({64, 2}, 2)};
  linear.weight.requires_grad_();
  const ModelWeights clone = clone_weights(model.weights);
  CHECK(clone.lm_head.is_same(clone.embed_tokens));
  const Tensors copies = named_parameters(clone);
  for (const auto& [name, parameter] : named_parameters(model.weights)) {
    check_bitwise(name, copies.at(name), parameter);
    CHECK_FALSE(copies.at(name).is_alias_of(parameter));
    CHECK_FALSE(copies.at(name).requires_grad());
  }
  const Adapter& copied = *clone.layers[0].q_proj.adapter;
  check_bitwise("lora a", copied.a, linear.adapter->a);
  CHECK_FALSE(copied.a.is_alias_of(linear.adapter->a));
  CHECK_FALSE(copied.b.is_alias_of(linear.adapter->b));
}
