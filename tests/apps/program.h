// The real program, run on a tiny model folder.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "io/json_file.h"
#include "linearize/plan.h"
#include "support/catch.h"
#include "support/child_process.h"
#include "support/tiny_rows.h"

namespace tigon::testing {

/// Runs build/tigon with these arguments. Its token cache lives and dies with the test program.
inline ChildResult tigon_program(std::vector<std::string> arguments,
                                 const ChildLimits& limits = {}) {
  static const TemporaryFolder cache;
  setenv("TIGON_CACHE", cache.path().c_str(), /*overwrite=*/1);
  arguments.insert(arguments.begin(), TIGON_BINARY_FOLDER "/tigon");
  return run_program(arguments, limits);
}

/// Runs the program, which must succeed, and reads the one JSON object it prints.
inline Json tigon_json(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const ChildResult result = tigon_program(arguments);
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  return Json::parse(result.standard_output);
}

/// The program must end with this code, say `message` in a line that starts with "error: ", and
/// print no result.
inline void check_fails(const std::vector<std::string>& arguments, int exit_code,
                        const std::string& message, const ChildLimits& limits = {}) {
  const ChildResult result = tigon_program(arguments, limits);
  INFO("stderr: " << result.standard_error << "\nexpected in it: " << message);
  CHECK(result.exit_code == exit_code);
  CHECK(result.standard_error.find(message) != std::string::npos);
  CHECK(("\n" + result.standard_error).find("\nerror: ") != std::string::npos);
  CHECK(result.standard_output.empty());
}

/// A teacher with tokenizer and text, and the same weights as a linearized folder. Made anew for
/// each test case, so that it may be broken.
struct TinyFolders {
  TinyFolders() {
    std::filesystem::create_directory(teacher());
    write_model_folder(random_model(tiny_text_config()), teacher());
    write_tiny_tokenizer(teacher());
    write_tiny_corpus(folder / "corpus.txt", 8);
  }
  std::filesystem::path teacher() const { return folder / "teacher"; }
  std::filesystem::path text() const { return folder / "corpus.txt"; }

  /// The untrained student of a plan: what conversion does to the config and the weights.
  std::filesystem::path student(const Plan& plan) const {
    const std::filesystem::path path = folder / "student";
    std::filesystem::copy(teacher(), path);
    Json config = read_json_file(teacher() / "config.json");
    config["base_model_type"] = config["model_type"];
    config["model_type"] = "tigon";
    config["linearize"] = plan_to_json(plan);
    write_json_file(path / "config.json", config);
    return path;
  }
  TemporaryFolder folder;
};

}  // namespace tigon::testing
