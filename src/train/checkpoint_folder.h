// RUN/checkpoints: step-N folders that appear whole or not at all, and the links best and last.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace tigon {

class CheckpointFolder {
 public:
  /// Creates the folder if need be and removes what a killed run left half-written.
  explicit CheckpointFolder(const std::filesystem::path& path);

  std::filesystem::path step_path(int64_t step) const;
  /// Writes step-N through `fill`, which gets a temporary folder that becomes step-N when all of it
  /// is on the disk; an older step-N is replaced.
  void write(int64_t step, const std::function<void(const std::filesystem::path&)>& fill);
  /// Points a link ("best", "last") at step-N, atomically.
  void point(const std::string& link, int64_t step);
  /// The step a link points at; nullopt if there is no such link or its target is gone.
  std::optional<int64_t> step_of(const std::string& link) const;
  /// Removes the steps that no link points at, but keeps those that `every` divides (0: none).
  void prune(int64_t every) const;

 private:
  std::filesystem::path path_;
};

}  // namespace tigon
