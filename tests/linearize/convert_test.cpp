#include "linearize/convert.h"

#include <ATen/ATen.h>

#include <map>

#include "support/catch.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("liger and window recipes add no parameter", "[convert]") {
  const Model model = tiny_model();
  int64_t parameters = 0;
  visit_parameters(model.weights, [&](const std::string&, const at::Tensor& parameter) {
    parameters += parameter.numel();
  });
  for (const char* recipe : {"liger-gla", "liger-hgrn2", "liger-gsa", "liger-mamba2", "liger-mlstm",
                             "liger-retention", "liger-rwkv6", "window", "window-sinks"}) {
    INFO(recipe);
    const Conversion conversion = convert(load_plan(recipe), model);
    CHECK(conversion.report.new_parameters == 0);
    CHECK(conversion.report.dropped_parameters == 0);
    CHECK(conversion.report.base_parameters == parameters);
    for (const auto& mixer : conversion.stack) CHECK(mixer->parameters().empty());
    for (const ReportedTensor& tensor : conversion.report.tensors) CHECK(tensor.fate == "copied");
  }
}

TEST_CASE("the report counts what supra and lolcats bring", "[convert]") {
  const Model model = tiny_model();  // 2 layers, 4 query heads and 2 KV heads of 16
  const auto new_parameters = [&](const char* recipe, const std::vector<std::string>& overrides) {
    const ConversionReport report = convert(load_plan(recipe, overrides), model).report;
    CHECK(report_to_json(report)["parameters"]["new"] == report.new_parameters);
    CHECK(report_to_text(report).find("self_attn.mixer.w_q [") != std::string::npos);
    return report.new_parameters;
  };
  CHECK(new_parameters("supra", {}) == 2 * (64 * 64 + 64 + 32 * 32 + 32));
  CHECK(new_parameters("supra", {"maps=per_head"}) == 2 * 6 * (16 * 16 + 16));
  CHECK(new_parameters("supra", {"affine=true", "decay=learned"}) ==
        2 * (64 * 64 + 64 + 32 * 32 + 32 + 2 * 64 + 4));
  CHECK(new_parameters("lolcats", {}) == 2 * (2 * 4 * 16 * 64 + 4));
  CHECK(new_parameters("lolcats", {"feature_map=t2r", "key_maps=kv_heads", "hybrid.layers=[0]"}) ==
        6 * 16 * 64 + 4 + 2 + 4);
}

TEST_CASE("the report accounts for every checkpoint tensor", "[convert]") {
  Model model = random_model(tiny_config(2, /*tie_word_embeddings=*/true));
  const TemporaryFolder folder;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    tensors.emplace_back(name, parameter);
  });
  // What old checkpoints hold besides.
  tensors.emplace_back("lm_head.weight", model.weights.embed_tokens);
  tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq",
                       model.rotary.inverse_frequencies);
  write_json_file(folder / "config.json", llama_config_json(model.config));
  save_tensors(folder / "model.safetensors", tensors);
  const LoadedModel loaded = load_any_model(folder.path(), at::kFloat, test_device());

  const Checkpoint checkpoint(folder.path());
  const ConversionReport report = convert(load_plan("liger-gla"), loaded.model, &checkpoint).report;
  std::map<std::string, std::string> fates;
  for (const ReportedTensor& tensor : report.tensors) fates[tensor.name] = tensor.fate;
  CHECK(fates.size() == tensors.size());
  CHECK(fates.at("lm_head.weight") == "dropped (equal to the tied embeddings)");
  CHECK(fates.at("model.layers.0.self_attn.rotary_emb.inv_freq") ==
        "dropped (a buffer computed from config.json)");
  CHECK(fates.at("model.embed_tokens.weight") == "copied");
  CHECK(report.dropped_parameters == 97 * 48 + 8);

  const Json json = report_to_json(report);
  CHECK(json["recipe"] == "liger-gla");
  CHECK(json["layers"].size() == 2);
  CHECK(json["tensors"].size() == tensors.size());
  CHECK(json["parameters"]["dropped"] == report.dropped_parameters);
  const std::string text = report_to_text(report);
  CHECK(text.find("layers 0-1") != std::string::npos);
  CHECK(text.find("lm_head.weight [97, 48]: dropped (equal to the tied embeddings)") !=
        std::string::npos);
  CHECK(text.find("model.norm.weight") == std::string::npos);
}

TEST_CASE("untrained students equal another implementation's logits", "[convert][golden]") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  TIGON_SHARED_OR_SKIP(expected, "golden/models/gutenberg-25m-converted.safetensors");
  const LoadedModel loaded = load_any_model(folder, at::kFloat, test_device());
  CHECK(loaded.plan.is_teacher());
  const SafetensorsFile file(expected);
  const at::Tensor ids = golden(file, "ids").cpu().to(at::kLong);
  const std::vector<int64_t> tokens(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  const Batch batch = make_batch({tokens}, test_device());
  const at::NoGradGuard no_grad;
  for (const auto& [recipe, name] : {std::pair("liger-gla", "liger_gla"),
                                     {"window", "window"},
                                     {"liger-hgrn2", "liger_hgrn2"}}) {
    const Conversion conversion = convert(load_plan(recipe), loaded.model);
    const at::Tensor logits =
        logits_of(loaded.model, forward_hidden(loaded.model, conversion.stack, batch));
    check_close(recipe, logits, golden(file, name)[0], kFloat32Student);
  }
}
