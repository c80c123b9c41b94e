#include "sweep/child_run.h"

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <thread>

#include "io/json_file.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

ChildExit wait_for(ChildRun& child) {
  while (true) {
    if (const auto exit = child.poll()) return *exit;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// What CUDA_VISIBLE_DEVICES is for a run on a device.
std::string visible_gpus(const std::string& device) {
  const std::string name = "CUDA_VISIBLE_DEVICES=";
  std::vector<std::string> found;
  for (const std::string& entry : environment_for(device)) {
    if (entry.starts_with(name)) found.push_back(entry.substr(name.size()));
  }
  REQUIRE(found.size() <= 1);
  return found.empty() ? "unset" : found[0];
}

}  // namespace

TEST_CASE("a child's output goes to its log, and its exit is known", "[child]") {
  const TemporaryFolder folder;
  folder.write("log", "before\n");
  ChildRun child({"/bin/sh", "-c", "echo $WORD; echo wrong >&2; exit 3"}, {"WORD=hello"},
                 folder / "log");
  const ChildExit exit = wait_for(child);
  CHECK(exit.code == 3);
  CHECK(exit.signal == 0);
  const std::string log = read_text_file(folder / "log");
  INFO(log);
  CHECK(log.starts_with("before\n$ /bin/sh -c"));
  CHECK(log.ends_with("\nhello\nwrong\n"));
}

TEST_CASE("signals reach a child, and one left behind is ended", "[child]") {
  const TemporaryFolder folder;
  ChildRun child({"/bin/sleep", "100"}, {}, folder / "log");
  CHECK_FALSE(child.poll().has_value());
  child.send_signal(SIGINT);
  CHECK(wait_for(child).signal == SIGINT);
  { ChildRun forgotten({"/bin/sleep", "100"}, {}, folder / "log"); }
}

TEST_CASE("what cannot be started says so", "[child]") {
  const TemporaryFolder folder;
  ChildRun child({"/no/such/program"}, {}, folder / "log");
  CHECK(wait_for(child).code == 127);
  check_refused([&] { ChildRun({"/bin/true"}, {}, folder / "no/log"); }, "no/log: cannot open");
}

TEST_CASE("a run on a GPU sees that GPU alone", "[child]") {
  unsetenv("CUDA_VISIBLE_DEVICES");
  CHECK(visible_gpus("cuda:1") == "1");
  CHECK(visible_gpus("cpu") == "unset");
  setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7a", 1);
  CHECK(visible_gpus("cuda:0") == "5");
  CHECK(visible_gpus("cuda:1") == "GPU-7a");
  CHECK(visible_gpus("cpu") == "5,GPU-7a");
  unsetenv("CUDA_VISIBLE_DEVICES");
}
