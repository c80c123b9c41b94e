#include "train/checkpoint_folder.h"

#include <stdexcept>

#include "io/atomic_file.h"
#include "io/json_file.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

void write_step(CheckpointFolder& checkpoints, int64_t step, const std::string& text = "x") {
  checkpoints.write(
      step, [&](const fs::path& folder) { write_file_atomically(folder / "content.txt", text); });
}

}  // namespace

TEST_CASE("links follow the newest and the best step", "[checkpoint]") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder / "checkpoints");
  CHECK_FALSE(checkpoints.step_of("last"));
  for (const int64_t step : {4, 8, 12}) {
    write_step(checkpoints, step);
    checkpoints.point("last", step);
    if (step <= 8) checkpoints.point("best", step);
  }
  CHECK(checkpoints.step_of("best") == 8);
  CHECK(checkpoints.step_of("last") == 12);
  CHECK(fs::exists(folder / "checkpoints" / "best" / "content.txt"));
  // A link stays valid when the run folder is moved.
  CHECK(fs::read_symlink(folder / "checkpoints" / "best") == "step-8");
}

TEST_CASE("pruning keeps linked steps and those a number divides", "[checkpoint]") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder / "checkpoints");
  for (const int64_t step : {3, 5, 10, 15, 17, 19}) write_step(checkpoints, step);
  checkpoints.point("best", 3);
  checkpoints.point("last", 19);
  checkpoints.prune(5);
  const auto exists = [&](int64_t step) { return fs::exists(checkpoints.step_path(step)); };
  CHECK((exists(3) && exists(5) && exists(10) && exists(15) && exists(19)));
  CHECK_FALSE(exists(17));
  checkpoints.prune(0);
  CHECK((exists(3) && exists(19)));
  CHECK_FALSE((exists(5) || exists(10) || exists(15)));
}

TEST_CASE("a checkpoint that fails leaves the older one", "[checkpoint]") {
  const TemporaryFolder folder;
  CheckpointFolder checkpoints(folder / "checkpoints");
  write_step(checkpoints, 4, "whole");
  check_refused(
      [&] {
        checkpoints.write(4, [](const fs::path& path) {
          write_file_atomically(path / "content.txt", "half");
          throw std::runtime_error("the disk is full");
        });
      },
      "the disk is full");
  CHECK(read_text_file(checkpoints.step_path(4) / "content.txt") == "whole");
  CHECK(std::distance(fs::directory_iterator(folder / "checkpoints"), {}) == 1);
}

TEST_CASE("what a killed run left half-written is removed", "[checkpoint]") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "checkpoints" / ".step-8.tmp-1-2");
  const CheckpointFolder checkpoints(folder / "checkpoints");
  CHECK(fs::is_empty(folder / "checkpoints"));
}
