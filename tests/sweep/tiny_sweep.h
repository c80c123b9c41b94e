// A sweep over a tiny run.
#pragma once
#include "io/atomic_file.h"
#include "support/catch.h"
#include "sweep/sweep_plan.h"
#include "train/tiny_run.h"

namespace tigon::testing {

class TinySweep {
 public:
  /// `varied` is YAML that follows base, folder and devices.
  explicit TinySweep(const std::string& varied) {
    write_file_atomically(file(), "# A test's sweep.\nbase: run.yaml\nfolder: " +
                                      folder().string() + "\ndevices: cpu\n" + varied);
  }

  const TinyRun& run() const { return run_; }
  std::filesystem::path file() const { return run_.folder() / "sweep.yaml"; }
  std::filesystem::path folder() const { return run_.folder() / "runs"; }
  SweepConfig config(const std::vector<std::string>& overrides = {}) const {
    return read_sweep_config(file(), overrides);
  }
  SweepPlan plan(const std::vector<std::string>& overrides = {}) const {
    return plan_sweep(config(overrides));
  }
  std::vector<std::string> names(const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> found;
    for (const SweepRun& one : plan(overrides).runs) found.push_back(one.name);
    return found;
  }

 private:
  TinyRun run_;
};

}  // namespace tigon::testing
