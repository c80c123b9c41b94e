// llama2.c model files, made here byte by byte.
#include "io/llama2c.h"

#include <cstring>
#include <numeric>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/model_config.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr int32_t kDim = 8, kHidden = 6, kLayers = 2, kHeads = 2, kKvHeads = 1, kVocab = 5,
                  kSeqLen = 3;
constexpr int32_t kHeadDim = kDim / kHeads, kKvDim = kHeadDim * kKvHeads;
constexpr int64_t kLayerFloats =
    2 * kDim + 2 * kDim * kDim + 2 * kKvDim * kDim + 3 * kHidden * kDim;
constexpr int64_t kTiedFloats = kVocab * kDim + kLayers * kLayerFloats + kDim + kSeqLen * kHeadDim;

std::string text_of(std::vector<int32_t> header, int64_t floats) {
  std::vector<float> values(static_cast<size_t>(floats));
  std::iota(values.begin(), values.end(), 0.0f);
  std::string text(reinterpret_cast<const char*>(header.data()), header.size() * sizeof(int32_t));
  return text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

std::vector<int32_t> header(int32_t vocab) {
  return {kDim, kHidden, kLayers, kHeads, kKvHeads, vocab, kSeqLen};
}

float value(const TensorView& view, size_t index) {
  float result = 0;
  std::memcpy(&result, view.data + index * sizeof(float), sizeof(float));
  return result;
}

}  // namespace

TEST_CASE("llama2.c: tensors lie where the format says") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "model.bin", text_of(header(kVocab), kTiedFloats));
  const Llama2cFile file(folder / "model.bin");
  const auto& tensors = file.tensors();
  CHECK(tensors.size() == 2 + kLayers * 9);
  CHECK(value(tensors.at("model.embed_tokens.weight"), 0) == 0);
  const float norms = kVocab * kDim;
  CHECK(value(tensors.at("model.layers.1.input_layernorm.weight"), 0) == norms + kDim);
  const float q = norms + kLayers * kDim;
  const TensorView& q_proj = tensors.at("model.layers.1.self_attn.q_proj.weight");
  CHECK(q_proj.shape == std::vector<int64_t>{kDim, kDim});
  // Rows 0, 2 | 1, 3 of each head of 4.
  const float layer_1 = q + kDim * kDim;
  CHECK(value(q_proj, 0) == layer_1);
  CHECK(value(q_proj, 1 * kDim) == layer_1 + 2 * kDim);
  CHECK(value(q_proj, 2 * kDim) == layer_1 + 1 * kDim);
  CHECK(value(q_proj, 3 * kDim) == layer_1 + 3 * kDim);
  CHECK(value(q_proj, 5 * kDim) == layer_1 + 6 * kDim);
  const float k = q + kLayers * kDim * kDim, v = k + kLayers * kKvDim * kDim;
  CHECK(value(tensors.at("model.layers.0.self_attn.k_proj.weight"), kDim) == k + 2 * kDim);
  CHECK(value(tensors.at("model.layers.0.self_attn.v_proj.weight"), kDim) == v + kDim);
  CHECK(value(tensors.at("model.norm.weight"), 0) == kTiedFloats - kSeqLen * kHeadDim - kDim);
  CHECK(tensors.at("model.layers.0.mlp.down_proj.weight").shape ==
        std::vector<int64_t>{kDim, kHidden});

  const ModelConfig config = read_model_config(folder.path());
  CHECK(config.hidden_size == kDim);
  CHECK(config.num_kv_heads == kKvHeads);
  CHECK(config.tie_word_embeddings);
  const Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.at("model.norm.weight").shape == std::vector<int64_t>{kDim});
}

TEST_CASE("llama2.c: a negative vocabulary means an output layer of its own") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "model.bin",
                        text_of(header(-kVocab), kTiedFloats + kVocab * kDim));
  const Llama2cFile file(folder / "model.bin");
  CHECK(value(file.tensors().at("lm_head.weight"), 0) == kTiedFloats);
  CHECK_FALSE(read_model_config(folder.path()).tie_word_embeddings);
}

TEST_CASE("llama2.c: files that are none are refused") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& text, const std::string& message) {
    write_file_atomically(folder / "model.bin", text);
    check_refused<Error>([&] { Llama2cFile{folder / "model.bin"}; }, message);
    CHECK_FALSE(find_llama2c_model(folder.path()));
  };
  const std::string sound = text_of(header(kVocab), kTiedFloats);
  refuse(sound.substr(0, 20), "expected a llama2.c model, found only 20 bytes");
  refuse(sound.substr(0, sound.size() - 4), "its header asks for");
  refuse(sound + "more", "its header asks for");
  refuse(text_of({kDim, kHidden, kLayers, 3, 1, kVocab, kSeqLen}, kTiedFloats),
         "expected heads that divide its width of 8");
  for (size_t field = 0; field < 7; ++field) {
    for (const int32_t wrong : {0, INT32_MIN, INT32_MAX}) {
      std::vector<int32_t> fields = header(kVocab);
      fields[field] = wrong;
      refuse(text_of(fields, kTiedFloats), "not a llama2.c model: expected sizes from 1 to");
    }
  }
  check_refused<Error>([&] { read_model_config(folder.path()); }, "found no config.json");
}

TEST_CASE("llama2.c: several models in a folder are refused") {
  const TemporaryFolder folder;
  for (const char* name : {"a.bin", "b.bin"}) {
    write_file_atomically(folder / name, text_of(header(kVocab), kTiedFloats));
  }
  check_refused<Error>([&] { read_model_config(folder.path()); }, "expected one llama2.c model");
}
