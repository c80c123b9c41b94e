// The program as such: help, versions, exit codes, wrong usage.
#include "apps/program.h"

#include "version.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("tigon --version names tigon, the commit, LibTorch, CUDA and the GPUs") {
  const ChildResult result = tigon_program({"--version"});
  CHECK(result.exit_code == 0);
  for (const std::string& part :
       {std::string("tigon ") + kVersion, std::string("git ") + kGitHash,
        std::string("LibTorch ") + kTorchVersion, std::string("CUDA ") + kCudaVersion,
        std::string("GPUs visible: ")}) {
    INFO(part);
    CHECK(result.standard_output.find(part) != std::string::npos);
  }
}

TEST_CASE("--help lists the commands and says what is planned") {
  const ChildResult result = tigon_program({"--help"});
  CHECK(result.exit_code == 0);
  for (const std::string name : {"train", "convert", "eval", "logits", "generate", "export",
                                 "tokenize", "inspect", "sweep", "report", "bench", "Exit codes"}) {
    INFO(name);
    CHECK(result.standard_output.find(name) != std::string::npos);
  }
  CHECK(result.standard_output.find("not available in this version: serve") != std::string::npos);
}

TEST_CASE("every command has help with an example") {
  for (const std::string name : {"train", "convert", "eval", "logits", "generate", "export",
                                 "tokenize", "inspect", "sweep", "report", "bench"}) {
    const ChildResult result = tigon_program({name, "--help"});
    INFO(name << ": " << result.standard_error << result.standard_output);
    CHECK(result.exit_code == 0);
    CHECK(result.standard_output.find("Example") != std::string::npos);
    CHECK(result.standard_output.find("tigon " + name) != std::string::npos);
  }
}

TEST_CASE("wrong usage ends with exit code 2 and names what is wrong") {
  check_fails({}, 2, "A subcommand is required");
  check_fails({"frobnicate"}, 2, "unknown command 'frobnicate'");
  check_fails({"bench", "decode"}, 2,
              "unknown command 'decode'; `tigon bench --help` lists the commands: ops, train");
  check_fails({"eval", "--model", "x", "--text", "y", "--modle", "z"}, 2, "--modle");
  check_fails({"eval"}, 2, "--model is required");
  check_fails({"generate", "--model", "x", "--max-new-tokens", "many"}, 2, "--max-new-tokens");
  check_fails({"generate", "--model", "x", "--max-new-tokens", "0"}, 2, "--max-new-tokens");
  check_fails({"eval", "--model", "x", "--text", "y", "--borders", "some"}, 2, "--borders");
  check_fails({"eval", "--model", "x", "--text", "y", "--dtype", "float8"}, 2, "--dtype");
}

TEST_CASE("planned commands are refused as such") {
  for (const std::string name : {"serve"}) {
    const std::string message = "error: 'tigon " + name + "' is not available in this version";
    check_fails({name}, 2, message);
    check_fails({name, "--model", "DIR", "--help"}, 2, message);
  }
}

TEST_CASE("devices that are not there are refused") {
  const TinyFolders tiny;
  const std::string model = tiny.teacher(), text = tiny.text();
  check_fails({"eval", "--model", model, "--text", text, "--device", "tpu"}, 2,
              "device: expected auto, cpu, cuda or cuda:N, found 'tpu'");
  check_fails({"eval", "--model", model, "--text", text, "--device", "cuda:99"}, 1,
              "device 'cuda:99'");
}

TEST_CASE("tigon -q keeps stderr to warnings and errors") {
  const TinyFolders tiny;
  const ChildResult result = tigon_program(
      {"-q", "generate", "--model", tiny.teacher(), "--prompt", "a", "--max-new-tokens", "2"});
  CHECK(result.exit_code == 0);
  CHECK(result.standard_error.empty());
}

TEST_CASE("a result that cannot be written is an error") {
  const TinyFolders tiny;
  const ChildResult result =
      run_program({"sh", "-c",
                   TIGON_BINARY_FOLDER "/tigon generate --model " + tiny.teacher().string() +
                       " --prompt a --max-new-tokens 2 --json > /dev/full"});
  CHECK(result.exit_code == 1);
  CHECK(result.standard_error.find("error: stdout: cannot write the result") != std::string::npos);
}

TEST_CASE("a mistyped config key is refused with its line and the nearest key") {
  const TinyFolders tiny;
  tiny.folder.write("typo.yaml", "model:\n  pth: teacher\n");
  check_fails({"train", tiny.folder / "typo.yaml", "--dry-run"}, 2, "model.pth: unknown key");
}
