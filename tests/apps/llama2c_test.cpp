// A llama2.c model and its tokenizer, read as they are: what their author documents.
#include <algorithm>

#include "apps/program.h"
#include "data/tokenizer.h"
#include "io/atomic_file.h"
#include "support/shared_material.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

/// The text between the line that ends in `command` and the end of its block.
std::string documented_text(const fs::path& page, const std::string& command) {
  const std::string text = read_text_file(page);
  const size_t start = text.find(command + "\n");
  REQUIRE(start != std::string::npos);
  const size_t begin = start + command.size() + 1;
  return text.substr(begin, text.find("\n```", begin) - begin);
}

/// As long as llama2.c's own run, which ends after 256 positions.
std::string greedy_text(const fs::path& model) {
  const Json json = tigon_json({"generate", "--model", model, "--prompt", "", "--max-new-tokens",
                                "256", "--device", "cpu", "--dtype", "float32"});
  const std::string text = json["text"];
  return text.substr(text.find_first_not_of(' '));
}

}  // namespace

TEST_CASE("llama2.c: the documented greedy text, as it is and exported") {
  TIGON_SHARED_OR_SKIP(model, "models/stories260K");
  const std::string expected =
      documented_text(model / "stories260K.md", "-z stories260K/tok512.bin -t 0.0");
  CHECK_THAT(greedy_text(model), Catch::StartsWith(expected));
  const TemporaryFolder folder;
  const ChildResult result = tigon_program({"convert", "--model", model, "--recipe", "none",
                                            "--out", folder / "out", "--device", "cpu"});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK(fs::exists(folder / "out" / "config.json"));
  CHECK_THAT(greedy_text(folder / "out"), Catch::StartsWith(expected));
}

TEST_CASE("llama2.c: about the documented validation loss on stories of that kind") {
  TIGON_SHARED_OR_SKIP(model, "models/stories260K");
  TIGON_SHARED_OR_SKIP(sample, "corpus/tinystories_sample.txt");
  std::string text = read_text_file(sample).substr(0, 300'000);
  const std::string separator = "<|endoftext|>";
  for (size_t at = 0; (at = text.find(separator, at)) != std::string::npos;) {
    text.replace(at, separator.size(), std::string(1, '\0'));
  }
  const TemporaryFolder folder;
  write_file_atomically(folder / "stories.txt", text);
  const Json json =
      tigon_json({"eval", "--model", model, "--text", folder / "stories.txt", "--seq-len", "256",
                  "--rows", "64", "--borders", "none", "--device", "cpu", "--dtype", "float32"});
  // 1.2968 on its own validation set, in rows of 512 tokens.
  CHECK(json["nats_per_token"].get<double>() == Approx(1.2968).margin(0.06));
}
