#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <sstream>

#include "core/error.h"
#include "io/atomic_file.h"

namespace tigon {
namespace {

/// The double that prints as shortly as the float does.
double shortest(float value) {
  return std::stod(fmt::format("{}", value));
}

std::string lines_up_to(const std::filesystem::path& path, int64_t last_step) {
  std::string kept;
  for (const Json& line : read_metrics(path)) {
    if (line.at("step").get<int64_t>() <= last_step) kept += line.dump() + "\n";
  }
  return kept;
}

}  // namespace

std::vector<Json> read_metrics(const std::filesystem::path& path) {
  std::vector<Json> lines;
  if (!std::filesystem::exists(path)) return lines;
  constexpr size_t kMostBytes = size_t{4} << 30;
  std::istringstream text(read_text_file(path, kMostBytes));
  for (std::string line; std::getline(text, line);) {
    if (text.eof()) break;  // no newline: the line was being written when the run was killed
    const Json value = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!value.is_object() || !value.contains("step") || !value["step"].is_number_integer()) {
      fail("{}: line {}: expected a JSON object with a step, found '{}'", path.string(),
           lines.size() + 1, line.substr(0, 80));
    }
    lines.push_back(value);
  }
  return lines;
}

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t last_step) : path_(path) {
  write_file_atomically(path, lines_up_to(path, last_step));
  descriptor_ = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail("{}: cannot open for writing: {}", path.string(), std::strerror(errno));
}

MetricsFile::~MetricsFile() {
  close(descriptor_);
}

void MetricsFile::write(const StepMetrics& metrics) {
  Json line = {
      {"step", metrics.step}, {"tokens", metrics.tokens}, {"loss", shortest(metrics.loss)}};
  if (metrics.cross_entropy) line["cross_entropy"] = shortest(*metrics.cross_entropy);
  line["lr"] = metrics.lr;
  line["grad_norm"] = shortest(metrics.grad_norm);
  line["tokens_per_s"] = std::round(metrics.tokens_per_s * 10) / 10;
  line["memory"] = metrics.memory;
  append(line);
}

void MetricsFile::write_validation(int64_t step, double loss) {
  append({{"step", step}, {"val_loss", loss}});
}

void MetricsFile::append(const Json& value) {
  const std::string line = value.dump() + "\n";
  const ssize_t written = ::write(descriptor_, line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    fail("{}: cannot write a line of {} bytes: {}", path_.string(), line.size(),
         written < 0 ? std::strerror(errno) : "the disk is full");
  }
}

void MetricsFile::sync() {
  if (fsync(descriptor_) != 0) fail("{}: cannot sync: {}", path_.string(), std::strerror(errno));
}

}  // namespace tigon
