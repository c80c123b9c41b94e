// class Checkpoint of io/safetensors.h.
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/json_file.h"
#include "io/llama2c.h"
#include "io/safetensors.h"

namespace tigon {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// A few problems in full and the number of the others.
class Problems {
 public:
  explicit Problems(std::string subject) : subject_(std::move(subject)) {}

  void add(const std::string& problem) {
    if (++count_ <= 8) text_ += "\n  " + problem;
  }

  void throw_if_any() const {
    if (count_ == 0) return;
    const std::string rest = count_ > 8 ? fmt::format("\n  and {} more", count_ - 8) : "";
    fail("{}: {} {}{}{}", subject_, count_, count_ == 1 ? "problem" : "problems", text_, rest);
  }

 private:
  std::string subject_, text_;
  int count_ = 0;
};

[[noreturn]] void fail_without_weights(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".bin" || extension == ".pth" || extension == ".pt") {
      fail(
          "{}: expected {} or {}, found {}, a pickle file: tigon never reads pickles, since they "
          "can run code; convert the weights to safetensors first",
          folder.string(), kSingleFile, kIndexFile, entry.path().filename().string());
    }
  }
  fail("{}: no weights: expected {} or {}", folder.string(), kSingleFile, kIndexFile);
}

/// Tensor name → shard name.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json index = read_json_file(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty()) {
    fail("{}: expected an object with a non-empty \"weight_map\"", path.string());
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) {
      fail("{}: tensor {}: expected a file name, found {}", path.string(), tensor, shard.dump());
    }
    const std::string name = shard.get<std::string>();
    // A path could point anywhere on the disk.
    const bool is_plain = fs::path(name).filename() == name && name.ends_with(".safetensors");
    if (!is_plain) {
      fail("{}: tensor {}: expected the name of a .safetensors file in this folder, found \"{}\"",
           path.string(), tensor, name);
    }
    shard_of[tensor] = name;
  }
  return shard_of;
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder) {
  if (!fs::is_directory(folder)) {
    fail("{}: expected a model folder, found {}", folder.string(),
         fs::exists(folder) ? "a file" : "nothing");
  }
  const bool has_single_file = fs::exists(folder / kSingleFile);
  if (!fs::exists(folder / kIndexFile)) {
    if (const auto file = has_single_file ? std::nullopt : find_llama2c_model(folder)) {
      llama2c_file_ = std::make_shared<const Llama2cFile>(*file);
      for (const auto& [name, view] : llama2c_file_->tensors()) tensors_[name] = &view;
      return;
    }
    if (!has_single_file) fail_without_weights(folder);
    files_.emplace_back(folder / kSingleFile);
    for (const auto& [name, view] : files_[0].tensors()) tensors_[name] = &view;
    return;
  }

  const std::map<std::string, std::string> shard_of = read_index(folder / kIndexFile);
  std::map<std::string, size_t> shards;  // name → position in files_
  for (const auto& [tensor, shard] : shard_of) shards.emplace(shard, 0);
  if (has_single_file && !shards.contains(kSingleFile)) {
    fail("{}: {} does not list {}, which is there too: remove the one that is out of date",
         folder.string(), kIndexFile, kSingleFile);
  }
  Problems problems(folder.string());
  for (const auto& [shard, unused] : shards) {
    if (!fs::exists(folder / shard)) {
      problems.add(fmt::format("{} lists {}, which is missing", kIndexFile, shard));
    }
  }
  problems.throw_if_any();

  for (auto& [shard, position] : shards) {
    position = files_.size();
    files_.emplace_back(folder / shard);
    for (const auto& [name, view] : files_.back().tensors()) {
      const auto listed = shard_of.find(name);
      if (listed == shard_of.end()) {
        problems.add(fmt::format("{} in {} is not listed in {}", name, shard, kIndexFile));
      } else if (listed->second != shard) {
        problems.add(
            fmt::format("{} is in {}, but {} says {}", name, shard, kIndexFile, listed->second));
      }
    }
  }
  for (const auto& [name, shard] : shard_of) {
    const TensorView* const view = files_[shards[shard]].find(name);
    if (view == nullptr) problems.add(fmt::format("{} is not in {}, as listed", name, shard));
    tensors_[name] = view;
  }
  problems.throw_if_any();
}

bool Checkpoint::has_weights(const fs::path& folder) {
  return fs::exists(folder / kSingleFile) || fs::exists(folder / kIndexFile) ||
         find_llama2c_model(folder).has_value();
}

const TensorView* Checkpoint::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

const TensorView& Checkpoint::at(const std::string& name) const {
  const TensorView* const view = find(name);
  if (view == nullptr) fail("{}: tensor {} is missing", folder_.string(), name);
  return *view;
}

}  // namespace tigon
