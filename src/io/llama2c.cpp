#include "io/llama2c.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "io/only_file.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHeaderBytes = 7 * sizeof(int32_t);
constexpr int64_t kMaxSize = 1 << 20;

std::string layer_name(int64_t layer, std::string_view name) {
  return fmt::format("model.layers.{}.{}.weight", layer, name);
}

}  // namespace

class Llama2cFile::Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::span<const std::byte> take(int64_t floats) {
    const auto part = rest_.first(static_cast<size_t>(floats) * sizeof(float));
    rest_ = rest_.subspan(part.size());
    return part;
  }

 private:
  std::span<const std::byte> rest_;
};

Llama2cFile::Header Llama2cFile::read_header(std::span<const std::byte> bytes,
                                             const std::string& name) {
  std::array<int32_t, 7> fields;
  if (bytes.size() < kHeaderBytes) {
    fail("{}: expected a llama2.c model, found only {} bytes", name, bytes.size());
  }
  std::memcpy(fields.data(), bytes.data(), kHeaderBytes);
  Header header{.dim = fields[0],
                .hidden_dim = fields[1],
                .num_layers = fields[2],
                .num_heads = fields[3],
                .num_kv_heads = fields[4],
                .vocab_size = std::abs(int64_t{fields[5]}),
                .seq_len = fields[6],
                .is_tied = fields[5] > 0};
  for (const int64_t size : {header.dim, header.hidden_dim, header.num_layers, header.num_heads,
                             header.num_kv_heads, header.vocab_size, header.seq_len}) {
    if (size < 1 || size > kMaxSize) {
      fail("{}: not a llama2.c model: expected sizes from 1 to {} in its header, found {}", name,
           kMaxSize, size);
    }
  }
  if (header.dim % header.num_heads != 0 || header.num_heads % header.num_kv_heads != 0 ||
      header.head_dim() % 2 != 0) {
    fail(
        "{}: not a llama2.c model: expected heads that divide its width of {} into even parts, "
        "found {} heads and {} KV heads",
        name, header.dim, header.num_heads, header.num_kv_heads);
  }
  // In double: sizes from outside may overflow any integer, and no file is near 2^53 bytes.
  const double dim = static_cast<double>(header.dim), kv = static_cast<double>(header.kv_dim());
  const double hidden = static_cast<double>(header.hidden_dim);
  const double layer = 2 * dim + 2 * dim * dim + 2 * kv * dim + 3 * hidden * dim;
  const double embeddings = static_cast<double>(header.vocab_size) * dim;
  const double rotary = static_cast<double>(header.seq_len * header.head_dim());
  const double floats = embeddings * (header.is_tied ? 1 : 2) +
                        static_cast<double>(header.num_layers) * layer + dim + rotary;
  const double expected = static_cast<double>(kHeaderBytes) + floats * sizeof(float);
  if (expected != static_cast<double>(bytes.size())) {
    fail("{}: not a llama2.c model: its header asks for {} bytes, found {}", name, expected,
         bytes.size());
  }
  return header;
}

void Llama2cFile::add(const std::string& name, std::vector<int64_t> shape,
                      std::span<const std::byte> bytes) {
  tensors_[name] = {.dtype = DType::kFloat32,
                    .shape = std::move(shape),
                    .data = bytes.data(),
                    .bytes = bytes.size()};
}

std::span<const std::byte> Llama2cFile::reordered(std::span<const std::byte> rows,
                                                  int64_t num_heads) {
  const size_t row_bytes = static_cast<size_t>(header_.dim) * sizeof(float);
  const auto head_dim = static_cast<size_t>(header_.head_dim());
  std::vector<std::byte> result(rows.size());
  for (size_t head = 0; head < static_cast<size_t>(num_heads); ++head) {
    for (size_t row = 0; row < head_dim; ++row) {
      // Row 2i of a head becomes row i, row 2i + 1 becomes row D/2 + i.
      const size_t target = row / 2 + (row % 2) * head_dim / 2;
      std::memcpy(result.data() + (head * head_dim + target) * row_bytes,
                  rows.data() + (head * head_dim + row) * row_bytes, row_bytes);
    }
  }
  return reordered_.emplace_back(std::move(result));
}

Llama2cFile::Llama2cFile(const fs::path& path)
    : file_(path), header_(read_header(file_->bytes(), path.string())) {
  read_tensors(file_->bytes());
}

Llama2cFile::Llama2cFile(std::span<const std::byte> bytes, const std::string& name)
    : header_(read_header(bytes, name)) {
  read_tensors(bytes);
}

void Llama2cFile::read_tensors(std::span<const std::byte> bytes) {
  const int64_t dim = header_.dim, hidden = header_.hidden_dim, kv = header_.kv_dim();
  Reader reader(bytes.subspan(kHeaderBytes));
  const auto add_layers = [&](std::string_view name, std::vector<int64_t> shape) {
    int64_t floats = 1;
    for (const int64_t size : shape) floats *= size;
    for (int64_t layer = 0; layer < header_.num_layers; ++layer) {
      std::span<const std::byte> bytes = reader.take(floats);
      if (name == "self_attn.q_proj") bytes = reordered(bytes, header_.num_heads);
      if (name == "self_attn.k_proj") bytes = reordered(bytes, header_.num_kv_heads);
      add(layer_name(layer, name), shape, bytes);
    }
  };
  add("model.embed_tokens.weight", {header_.vocab_size, dim},
      reader.take(header_.vocab_size * dim));
  add_layers("input_layernorm", {dim});
  add_layers("self_attn.q_proj", {dim, dim});
  add_layers("self_attn.k_proj", {kv, dim});
  add_layers("self_attn.v_proj", {kv, dim});
  add_layers("self_attn.o_proj", {dim, dim});
  add_layers("post_attention_layernorm", {dim});
  add_layers("mlp.gate_proj", {hidden, dim});
  add_layers("mlp.down_proj", {dim, hidden});
  add_layers("mlp.up_proj", {hidden, dim});
  add("model.norm.weight", {dim}, reader.take(dim));
  reader.take(header_.seq_len * header_.head_dim());  // cos and sin, which are computed anew
  if (!header_.is_tied) {
    add("lm_head.weight", {header_.vocab_size, dim}, reader.take(header_.vocab_size * dim));
  }
}

Json Llama2cFile::config_json() const {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", header_.vocab_size},
          {"hidden_size", header_.dim},
          {"intermediate_size", header_.hidden_dim},
          {"num_hidden_layers", header_.num_layers},
          {"num_attention_heads", header_.num_heads},
          {"num_key_value_heads", header_.num_kv_heads},
          {"hidden_act", "silu"},
          {"max_position_embeddings", header_.seq_len},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", header_.is_tied},
          {"bos_token_id", 1},
          {"eos_token_id", {1, 2}},
          {"torch_dtype", "float32"}};
}

std::optional<fs::path> find_llama2c_model(const fs::path& folder) {
  return find_only_file(folder, ".bin", "llama2.c model",
                        [](const fs::path& file) { const Llama2cFile model(file); });
}

}  // namespace tigon
