// What a sweep shows on stderr while it runs.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "sweep/run_state.h"

namespace tigon {

/// One run in the display.
struct ShownRun {
  std::string name, device;  // device: while it runs
  RunState state;
};

/// "step 120/1,221  81,200 tokens/s  loss 3.2145", "done  loss 3.1332  recovered 85.3 %  48 s",
/// "failed: REASON".
std::string state_to_text(const RunState& state);
/// "runs/windows: 7 of 12 done, 1 failed, 2 running, 2 waiting".
std::string totals_to_text(const std::string& title, const std::vector<ShownRun>& runs);

/// On a terminal a block of lines that rewrites itself, one a run (of many runs those at work and
/// the failed ones, as many as fit); in a file a line when a run changes its stage, and now and
/// then the totals. Nothing when logging is quieter than info.
class SweepDisplay {
 public:
  explicit SweepDisplay(std::string title);
  ~SweepDisplay();
  SweepDisplay(const SweepDisplay&) = delete;
  SweepDisplay& operator=(const SweepDisplay&) = delete;

  void update(const std::vector<ShownRun>& runs);
  /// Draws the last state and leaves it there.
  void finish(const std::vector<ShownRun>& runs);

 private:
  void draw_block(const std::vector<ShownRun>& runs);
  void log_changes(const std::vector<ShownRun>& runs);

  std::string title_;
  bool is_terminal_;
  int drawn_lines_ = 0;
  std::vector<RunStage> logged_;
  std::chrono::steady_clock::time_point last_draw_;
};

}  // namespace tigon
