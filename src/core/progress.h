// A progress line on stderr: a bar that rewrites itself on a terminal, and a line now and then when
// stderr is a file.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "core/format.h"

namespace tigon {

class Progress {
 public:
  /// `unit` is what `total` counts, e.g. "tokens". total ≤ 0: unknown length. `done_before` units
  /// were done by an earlier process and do not count in the rate. Draws nothing when logging is
  /// quieter than info.
  Progress(std::string title, int64_t total, std::string unit, int64_t done_before = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Moves to `done` units; `note` follows the rate and the time left, e.g. "loss 3.214". Redraws
  /// at most ten times a second on a terminal, every ten seconds otherwise.
  void update(int64_t done, const std::string& note = "");
  /// Draws the last state and ends the line.
  void finish();

 private:
  void draw(bool is_last);
  std::string title_, unit_, note_;
  int64_t total_, done_before_, done_;
  bool is_terminal_, is_finished_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

/// What a progress line says at one moment.
struct ProgressState {
  std::string title, unit, note;
  int64_t done = 0, total = 0;  // total ≤ 0: unknown length
  int64_t done_before = 0;      // not counted in the rate
  double seconds = 0;           // since the start
  int bar_width = 0;            // characters; 0: no bar
};
/// "training  [#####-----]  50%  10.0 M/20.0 M tokens  81,920 tokens/s  2 min 02 s left  loss 3.2".
std::string format_progress(const ProgressState& state);

}  // namespace tigon
