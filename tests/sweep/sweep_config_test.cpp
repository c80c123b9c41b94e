// A sweep's YAML: what it reads as, and what is refused.
#include "support/refusal.h"
#include "sweep/tiny_sweep.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> texts(const std::vector<Setting>& settings) {
  std::vector<std::string> result;
  for (const Setting& setting : settings) result.push_back(setting.as_override());
  return result;
}

}  // namespace

TEST_CASE("a sweep is read whole", "[sweep]") {
  const TinySweep sweep(R"(set: {train.steps: 4, lora: null}
grid:
  train.optimizer.lr: [1e-3, 3e-3]
list:
  - {name: all, train.trainable: all}
  - {lora.targets: [q_proj, v_proj]}
seeds: [0, 1]
parallel: 3
)");
  const SweepConfig config = sweep.config({"parallel=2", "train.batch_rows=1"});
  CHECK(config.base == sweep.run().config_file());
  CHECK(texts(config.set) == std::vector<std::string>{"train.steps=4", "lora=null"});
  REQUIRE(config.grid.size() == 1);
  CHECK(config.grid[0].key == "train.optimizer.lr");
  CHECK(config.grid[0].values == std::vector<std::string>{"1e-3", "3e-3"});
  REQUIRE(config.list.size() == 2);
  CHECK(config.list[0].name == "all");
  CHECK(texts(config.list[0].settings) == std::vector<std::string>{"train.trainable=all"});
  CHECK(config.list[1].name.empty());
  CHECK(texts(config.list[1].settings) ==
        std::vector<std::string>{"lora.targets=[q_proj, v_proj]"});
  CHECK(config.seeds == std::vector<int64_t>{0, 1});
  CHECK(config.folder == sweep.folder());
  CHECK(config.parallel == 2);
  CHECK(config.overrides == std::vector<std::string>{"train.batch_rows=1"});
  CHECK(config.devices == std::vector<std::string>{"cpu"});
}

TEST_CASE("all problems of a sweep come at once, with their lines", "[sweep]") {
  const TemporaryFolder folder;
  const auto file = folder.write("bad.yaml", R"(base: nowhere.yaml
set: {run.folder: x, train.steps: 3, device: cpu}
grid:
  train.steps: [1, 2]
  lora.rank: 8
  seed: [1, 2]
  lora.alpha: [1, 1]
list:
  - {name: "a/b", lora.rank: 4}
  - {}
seeds: [3, 3]
paralel: 2
parallel: 0
devices: [tpu]
)");
  std::string message;
  try {
    read_sweep_config(file, {"lora.alpha=3", "eval.known=x"});
  } catch (const ConfigError& error) {
    message = error.what();
  }
  INFO(message);
  for (const char* expected :
       {"bad.yaml: 17 problems", "line 1  base: expected a training config",
        "line 2  set.run.folder: the sweep names the run folders",
        "line 2  set.device: the sweep places the runs", "train.steps is fixed in `set` as well",
        "line 5  grid.lora.rank: expected a list of values, found \"8\"",
        "line 6  grid.seed: expected in the list `seeds`",
        "line 7  grid.lora.alpha: 1 is listed twice", "lora.rank varies in `list` as well",
        "line 9  list[0].name: expected letters", "found \"a/b\"",
        "line 10  list[1]: expected a name or at least one key", "seeds: 3 is listed twice",
        "line 12  paralel: unknown key (did you mean parallel?)",
        "parallel: expected an integer from 1 to 256", "found \"tpu\"", "folder: missing",
        "override \"lora.alpha=3\": the sweep varies this key",
        "override \"eval.known=x\": the sweep keeps known losses"}) {
    INFO(expected);
    CHECK(message.find(expected) != std::string::npos);
  }
}

TEST_CASE("GPUs that are not there are refused", "[sweep]") {
  const TinySweep sweep("seeds: [0]\n");
  check_refused<ConfigError>([&] { sweep.config({"devices=[cuda:98]"}); },
                             "cuda:98: this machine shows");
  check_refused<ConfigError>([&] { sweep.config({"devices=[cpu, cuda:0]"}); },
                             "expected auto, cpu or a list of cuda:N, found \"cpu\"");
  check_refused<ConfigError>([&] { sweep.config({"devices=[]"}); }, "found none");
}

TEST_CASE("every shipped sweep is read, and each of its runs", "[sweep]") {
  const TinyRun run;
  int num_sweeps = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(TIGON_SOURCE_FOLDER) / "configs/sweeps")) {
    INFO(entry.path());
    const std::string text = read_text_file(entry.path());
    CHECK(text.starts_with("# "));
    CHECK(text.find("sweep configs/sweeps/" + entry.path().filename().string()) !=
          std::string::npos);
    const SweepPlan plan = plan_sweep(read_sweep_config(
        entry.path(), {"model.path=" + (run.folder() / "base").string(),
                       "data.train=" + (run.folder() / "train.txt").string(),
                       "data.validation=" + (run.folder() / "validation.txt").string()}));
    CHECK(plan.runs.size() > 1);
    ++num_sweeps;
  }
  CHECK(num_sweeps >= 5);
}
