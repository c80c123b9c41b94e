#include "generate/sample_file.h"

#include <vector>

#include "core/error.h"
#include "io/json_file.h"

namespace tigon {
namespace {

bool check_ending(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  if (ending != ".txt" && ending != ".jsonl") {
    throw UsageError(fmt::format("{}: expected a file that ends in .txt or .jsonl, found '{}'",
                                 path.string(), ending));
  }
  return ending == ".jsonl";
}

}  // namespace

SampleFile::SampleFile(const std::filesystem::path& path)
    : is_jsonl_(check_ending(path)), file_(path) {}

void SampleFile::add(std::string text, std::span<const int64_t> tokens) {
  if (is_jsonl_) {
    const Json line = {{"text", text}, {"tokens", std::vector(tokens.begin(), tokens.end())}};
    file_.write(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    return;
  }
  std::erase(text, '\0');
  if (!is_empty_) file_.write(std::string_view("\0\n", 2));
  file_.write(text + "\n");
  is_empty_ = false;
}

}  // namespace tigon
