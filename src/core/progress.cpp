#include "core/progress.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/terminal.h"

namespace tigon {

namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kFileInterval = std::chrono::seconds(10);
constexpr int kBarWidth = 24;

}  // namespace

std::string format_progress(const ProgressState& state) {
  std::string line = state.title;
  const bool is_bounded = state.total > 0;
  if (is_bounded) {
    const double share = std::clamp(static_cast<double>(state.done) / state.total, 0.0, 1.0);
    if (state.bar_width > 0) {
      const int filled = static_cast<int>(share * state.bar_width);
      line += "  [" + std::string(filled, '#') + std::string(state.bar_width - filled, '-') + "]";
    }
    line += fmt::format("  {}%  {}/{} {}", static_cast<int>(share * 100), format_count(state.done),
                        format_count(state.total), state.unit);
  } else {
    line += fmt::format("  {} {}", format_count(state.done), state.unit);
  }
  if (state.done > state.done_before && state.seconds > 0) {
    const double rate = (state.done - state.done_before) / state.seconds;
    line += fmt::format("  {} {}/s", format_count(rate), state.unit);
    line += is_bounded && state.done < state.total
                ? "  " + format_duration((state.total - state.done) / rate) + " left"
                : "  in " + format_duration(state.seconds);
  }
  if (!state.note.empty()) line += "  " + state.note;
  return line;
}

Progress::Progress(std::string title, int64_t total, std::string unit, int64_t done_before)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      done_before_(done_before),
      done_(done_before),
      is_terminal_(stderr_is_terminal()),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_) {}

Progress::~Progress() {
  finish();
}

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (done_ == total_) return;  // finish() draws that
  const auto elapsed = std::chrono::steady_clock::now() - last_draw_;
  if (is_terminal_ ? elapsed >= kTerminalInterval : elapsed >= kFileInterval) draw(false);
}

void Progress::finish() {
  if (is_finished_) return;
  is_finished_ = true;
  draw(true);
}

void Progress::draw(bool is_last) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  last_draw_ = std::chrono::steady_clock::now();
  std::string line =
      format_progress({.title = title_,
                       .unit = unit_,
                       .note = note_,
                       .done = done_,
                       .total = total_,
                       .done_before = done_before_,
                       .seconds = std::chrono::duration<double>(last_draw_ - start_).count(),
                       .bar_width = is_terminal_ ? kBarWidth : 0});
  if (is_terminal_) {
    // A line that wraps could not be rewritten. "\x1b[K" clears what a longer line left behind.
    line = fmt::format("\r{}\x1b[K{}",
                       cut_to_width(line, static_cast<size_t>(terminal_size().columns) - 1),
                       is_last ? "\n" : "");
  } else {
    line += "\n";
  }
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace tigon
