#include "bench/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <iterator>

#include "core/error.h"
#include "generated/version.h"
#include "io/atomic_file.h"
#include "model/device.h"

namespace tigon {
namespace {

std::string read_all(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// The words this process was started with, quoted where a shell would split them.
std::string command_line() {
  const std::string words = read_all("/proc/self/cmdline");  // each ends with a NUL
  std::string command;
  for (size_t start = 0; start < words.size();) {
    const size_t end = std::min(words.find('\0', start), words.size());
    const std::string word = words.substr(start, end - start);
    if (!command.empty()) command += ' ';
    command += word.find_first_of(" \t'\"") == std::string::npos ? word : "'" + word + "'";
    start = end + 1;
  }
  return command;
}

}  // namespace

std::string record_section(const BenchReport& report, const std::string& device_name,
                           const std::string& commit, const std::string& command) {
  std::string sources;
  if (!report.sources.empty()) {
    sources = fmt::format("<!-- sources: {} -->\n", fmt::join(report.sources, " "));
  }
  return fmt::format("## {}\n\n{}{}, commit {}.\n\n```bash\n{}\n```\n\n```\n{}```\n", report.title,
                     sources, device_name, commit, command, report.text);
}

void record(const BenchReport& report, const at::Device& device,
            const std::filesystem::path& file) {
  std::string text = std::filesystem::exists(file) ? read_all(file) : "";
  if (!text.empty()) text += text.ends_with('\n') ? "\n" : "\n\n";
  text += record_section(report, device_name(device), kGitHash, command_line());
  write_file_atomically(file, text);
}

}  // namespace tigon
