#include "apps/program.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> convert(const TinyFolders& folders, const std::string& recipe,
                                 const std::string& out,
                                 const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"convert", "--model", folders.teacher(),    "--recipe",
                                        recipe,    "--out",   folders.folder / out, "--device",
                                        "cpu"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("convert writes a folder that other commands take", "[convert_command]") {
  const TinyFolders folders;
  const std::vector<std::string> text = {"--text", folders.text(), "--seq-len", "64"};
  const Json report = tigon_json(convert(folders, "liger-gla", "out", [&] {
    std::vector<std::string> more = {"window_keys=8", "hybrid.layers=[1]"};
    more.insert(more.end(), text.begin(), text.end());
    return more;
  }()));
  CHECK(report["recipe"] == "liger-gla");
  CHECK(report["parameters"]["new"] == 0);
  CHECK(report["layers"][1].get<std::string>().starts_with("softmax"));

  // The losses it reports are those that eval finds in both folders.
  const auto loss = [&](const std::filesystem::path& model) {
    return tigon_json({"eval", "--model", model, "--text", folders.text(), "--seq-len", "64",
                       "--device", "cpu"})["nats_per_token"];
  };
  CHECK(report["loss"]["teacher"]["nats_per_token"] == loss(folders.teacher()));
  CHECK(report["loss"]["converted"]["nats_per_token"] == loss(folders.folder / "out"));
  CHECK(report["loss"]["teacher"] != report["loss"]["converted"]);

  const Json summary = tigon_json({"inspect", folders.folder / "out"});
  CHECK(summary["kind"] == "linearized");
  CHECK(summary["layers"] == report["layers"]);
}

TEST_CASE("convert says that quality needs training", "[convert_command]") {
  const TinyFolders folders;
  const ChildResult result = tigon_program(convert(folders, "window", "out"));
  CHECK(result.exit_code == 0);
  CHECK(result.standard_output.find("quality needs training") != std::string::npos);
  CHECK(result.standard_output.find("copied") != std::string::npos);
}

TEST_CASE("convert refuses what it cannot do and leaves nothing", "[convert_command]") {
  const TinyFolders folders;
  const std::vector<std::string> before = folders.folder.names();
  check_fails(convert(folders, "linger", "out"), 2, "expected a recipe");
  check_fails(convert(folders, "windo", "out"), 2, "found \"windo\"");
  check_fails(convert(folders, "window", "out", {"window_kys=8"}), 2, "window_keys?");
  check_fails(convert(folders, "window", "out", {"hybrid.every=8"}), 2, "found 8");
  check_fails(
      {"convert", "--model", "owner/name", "--recipe", "window", "--out", folders.folder / "out"},
      1, "hf download owner/name --local-dir name");
  check_fails(convert(folders, "window", "teacher"), 1, "exists and is not empty");
  check_fails(convert(folders, "window", "out"), 1, "out", {.max_file_bytes = 50'000});
  CHECK(folders.folder.names() == before);
  const auto student = folders.student(load_plan("window"));
  check_fails(
      {"convert", "--model", student, "--recipe", "window", "--out", folders.folder / "out"}, 1,
      "linearized already");
}

TEST_CASE("inspect prints the memory of a sequence", "[inspect_command]") {
  const TinyFolders folders;
  const ChildResult result = tigon_program({"inspect", folders.student(load_plan("liger-gla"))});
  CHECK(result.exit_code == 0);
  CHECK(result.standard_output.find("layers 0-1") != std::string::npos);
  CHECK(result.standard_output.find("softmax attention") != std::string::npos);
  check_fails({"inspect", folders.folder.path()}, 1, "config.json");
}
