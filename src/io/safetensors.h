// safetensors files: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
// Files are hostile: lengths, offsets, overlaps, shapes and dtypes are all checked before anything
// is used.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "io/mapped_file.h"

namespace tigon {

/// A tensor inside a mapped file, or any contiguous memory of the caller's. `data` need not be
/// aligned to the element's size (the format allows any header length): copy bytes, do not
/// dereference.
struct TensorView {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;
};

class SafetensorsFile {
 public:
  /// Maps the file and checks the whole header. Throws Error naming the file and the fault.
  explicit SafetensorsFile(const std::filesystem::path& path);
  /// Parses a file held in memory (fuzzing, tests). `name` appears in errors; the bytes must
  /// outlive the object.
  SafetensorsFile(std::span<const std::byte> bytes, const std::string& name);

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// nullptr if absent.
  const TensorView* find(const std::string& name) const;
  /// Throws Error naming file and tensor if absent.
  const TensorView& at(const std::string& name) const;
  const std::string& name() const { return name_; }

 private:
  void parse(std::span<const std::byte> bytes);
  std::unique_ptr<MappedFile> file_;
  std::string name_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// What a tensor to be written looks like.
struct TensorSpec {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
};

/// Writes a file atomically, one tensor at a time: `data(name)` gives each tensor's bytes, which
/// are only held until the next call (a large model is never held twice). Tensors lie (and are
/// asked for) from the widest element type to the narrowest, so that all are aligned; within a
/// width in the order of `specs`. Throws Error on a full disk; a wrong `data` leaves no file
/// either.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
                       const std::function<TensorView(const std::string& name)>& data,
                       const std::map<std::string, std::string>& metadata = {});

/// Takes the next bytes of a tensor that is written piece by piece.
using ByteSink = std::function<void(std::span<const std::byte>)>;
/// write_safetensors for tensors too large to hold: `write(spec, sink)` hands a tensor's bytes to
/// the sink in order, in pieces of any size. Throws Error, and leaves no file, if they are too many
/// or too few.
void stream_safetensors(
    const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
    const std::function<void(const TensorSpec& spec, const ByteSink& sink)>& write,
    const std::map<std::string, std::string>& metadata = {});

class Llama2cFile;

/// The weights of a Hugging Face folder: model.safetensors, or the shards that
/// model.safetensors.index.json lists. In a folder without either, a llama2.c model.
class Checkpoint {
 public:
  /// Throws Error if there are no weights, a listed shard is missing, a tensor is listed but
  /// absent, present but not listed, or present twice, and if a single file and an index disagree
  /// about which files hold the weights; pickle files (pytorch_model.bin) are refused by name.
  explicit Checkpoint(const std::filesystem::path& folder);
  /// Whether a folder holds weights in a form that the constructor reads, sound or not.
  static bool has_weights(const std::filesystem::path& folder);

  const std::map<std::string, const TensorView*>& tensors() const { return tensors_; }
  /// nullptr if absent.
  const TensorView* find(const std::string& name) const;
  /// Throws Error naming folder and tensor if absent.
  const TensorView& at(const std::string& name) const;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::shared_ptr<const Llama2cFile> llama2c_file_;  // instead of files_
  std::map<std::string, const TensorView*> tensors_;
};

}  // namespace tigon
