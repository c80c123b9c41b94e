#include "train/checkpoint_folder.h"

#include <charconv>
#include <vector>

#include "core/error.h"
#include "io/atomic_file.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// N of "step-N".
std::optional<int64_t> step_number(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

}  // namespace

CheckpointFolder::CheckpointFolder(const fs::path& path) : path_(path) {
  std::error_code code;
  fs::create_directories(path_, code);
  if (code) fail("cannot create {}: {}", path_.string(), code.message());
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().starts_with(".")) leftovers.push_back(entry.path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
}

fs::path CheckpointFolder::step_path(int64_t step) const {
  return path_ / fmt::format("step-{}", step);
}

void CheckpointFolder::write(int64_t step, const std::function<void(const fs::path&)>& fill) {
  AtomicFolder folder(step_path(step), /*replace=*/true);
  fill(folder.path());
  folder.commit();
}

void CheckpointFolder::point(const std::string& link, int64_t step) {
  const fs::path temporary = path_ / ("." + link);
  std::error_code code;
  fs::remove(temporary, code);
  fs::create_directory_symlink(step_path(step).filename(), temporary, code);
  if (!code) fs::rename(temporary, path_ / link, code);
  if (code) fail("cannot point {} at step {}: {}", (path_ / link).string(), step, code.message());
}

std::optional<int64_t> CheckpointFolder::step_of(const std::string& link) const {
  std::error_code code;
  const fs::path target = fs::read_symlink(path_ / link, code);
  if (code || !fs::is_directory(path_ / target)) return std::nullopt;
  return step_number(target.filename().string());
}

void CheckpointFolder::prune(int64_t every) const {
  const auto best = step_of("best"), last = step_of("last");
  std::vector<fs::path> unused;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.is_symlink()) continue;
    const auto step = step_number(entry.path().filename().string());
    if (!step || step == best || step == last || (every > 0 && *step % every == 0)) continue;
    unused.push_back(entry.path());
  }
  for (const fs::path& path : unused) fs::remove_all(path);
}

}  // namespace tigon
