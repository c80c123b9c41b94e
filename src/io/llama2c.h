// The model file of karpathy's llama2.c (version 0): seven little-endian int32 (dim, hidden_dim,
// n_layers, n_heads, n_kv_heads, vocab_size, seq_len; a negative vocab_size means an output layer
// of its own), then float32 tensors in a fixed order. Files are hostile: the size must be exactly
// what the header implies.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/json_file.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace tigon {

class Llama2cFile {
 public:
  /// Maps the file and checks header and size. Throws Error naming the file and the fault.
  explicit Llama2cFile(const std::filesystem::path& path);
  /// Reads a file held in memory (fuzzing, tests). `name` appears in errors; the bytes must outlive
  /// the object.
  Llama2cFile(std::span<const std::byte> bytes, const std::string& name);

  /// The Hugging Face config.json of the same model (eps 1e-5, theta 10000, BOS 1, which
  /// also ends a text, as does EOS 2: all built into llama2.c).
  Json config_json() const;
  /// Tensors under Hugging Face's names. The rows of q and k are reordered within each head:
  /// llama2.c rotates neighbouring pairs, Hugging Face one half against the other. The views are
  /// good as long as this object.
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  struct Header {
    int64_t dim = 0, hidden_dim = 0, num_layers = 0, num_heads = 0, num_kv_heads = 0;
    int64_t vocab_size = 0, seq_len = 0;
    bool is_tied = true;
    int64_t head_dim() const { return dim / num_heads; }
    int64_t kv_dim() const { return head_dim() * num_kv_heads; }
  };
  /// Hands out the file's floats one tensor after another.
  class Reader;

  void read_tensors(std::span<const std::byte> bytes);
  static Header read_header(std::span<const std::byte> bytes, const std::string& name);
  void add(const std::string& name, std::vector<int64_t> shape, std::span<const std::byte> bytes);
  std::span<const std::byte> reordered(std::span<const std::byte> rows, int64_t num_heads);

  std::optional<MappedFile> file_;
  Header header_;
  std::map<std::string, TensorView> tensors_;
  std::vector<std::vector<std::byte>> reordered_;
};

/// The llama2.c model in a folder without config.json: its only `.bin` file whose header and size
/// fit each other; nothing if there is none. Throws Error if there are several.
std::optional<std::filesystem::path> find_llama2c_model(const std::filesystem::path& folder);

}  // namespace tigon
