#include "sweep/sweep_display.h"

#include <algorithm>
#include <cstdio>

#include "core/format.h"
#include "core/log.h"
#include "core/terminal.h"

namespace tigon {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(500);
constexpr auto kFileInterval = std::chrono::seconds(60);

int64_t count(const std::vector<ShownRun>& runs, RunStage stage) {
  return std::ranges::count(runs, stage, [](const ShownRun& run) { return run.state.stage; });
}

std::string running_text(const RunState& state) {
  if (state.step == 0) return "starting";
  std::string text = fmt::format("step {}", format_count(static_cast<double>(state.step)));
  if (state.planned_steps > 0) {
    text += fmt::format("/{}", format_count(static_cast<double>(state.planned_steps)));
    if (state.step >= state.planned_steps) return text + "  evaluating";
  }
  return text +
         fmt::format("  {} tokens/s  loss {:.4f}", format_count(state.tokens_per_s), state.loss);
}

std::string done_text(const RunState& state) {
  std::string text = "done";
  if (state.has_results) text += fmt::format("  loss {:.4f}", state.trained_loss);
  if (state.has_recovered) text += fmt::format("  recovered {:.1f} %", 100 * state.recovered);
  return text + "  " + format_duration(state.seconds);
}

/// A reason may have several lines: the first says what it is about.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

std::string line_of(const ShownRun& run, size_t name_width) {
  std::string line = run.name + std::string(name_width - display_width(run.name), ' ');
  if (!run.device.empty()) line += "  " + run.device;
  return line + "  " + state_to_text(run.state);
}

bool is_quiet() {
  return !spdlog::should_log(spdlog::level::info);
}

}  // namespace

std::string state_to_text(const RunState& state) {
  switch (state.stage) {
    case RunStage::kWaiting:
      return "waiting";
    case RunStage::kRunning:
      return running_text(state);
    case RunStage::kDone:
      return done_text(state);
    case RunStage::kFailed:
      return "failed: " + first_line(state.reason);
    case RunStage::kInterrupted:
      break;
  }
  return state.step > 0 ? fmt::format("interrupted after step {}", state.step) : "interrupted";
}

std::string totals_to_text(const std::string& title, const std::vector<ShownRun>& runs) {
  std::string text =
      fmt::format("{}: {} of {} done", title, count(runs, RunStage::kDone), runs.size());
  for (const auto& [stage, word] :
       {std::pair{RunStage::kFailed, "failed"}, std::pair{RunStage::kRunning, "running"},
        std::pair{RunStage::kInterrupted, "interrupted"},
        std::pair{RunStage::kWaiting, "waiting"}}) {
    if (const int64_t number = count(runs, stage)) text += fmt::format(", {} {}", number, word);
  }
  return text;
}

SweepDisplay::SweepDisplay(std::string title)
    : title_(std::move(title)), is_terminal_(stderr_is_terminal()) {}

SweepDisplay::~SweepDisplay() = default;

void SweepDisplay::update(const std::vector<ShownRun>& runs) {
  if (is_quiet()) return;
  if (!is_terminal_) return log_changes(runs);
  const auto now = std::chrono::steady_clock::now();
  if (drawn_lines_ > 0 && now - last_draw_ < kTerminalInterval) return;
  last_draw_ = now;
  draw_block(runs);
}

void SweepDisplay::finish(const std::vector<ShownRun>& runs) {
  if (is_quiet()) return;
  if (is_terminal_) {
    draw_block(runs);
    std::fputs("\n", stderr);
  } else {
    log_changes(runs);
    log_info("sweep", "{}", totals_to_text(title_, runs));
  }
}

void SweepDisplay::draw_block(const std::vector<ShownRun>& runs) {
  const TerminalSize terminal = terminal_size();
  const size_t most = static_cast<size_t>(std::max(terminal.rows - 3, 3));
  std::vector<const ShownRun*> shown;
  const bool shows_all = runs.size() <= most;
  for (const ShownRun& run : runs) {
    const bool is_news =
        run.state.stage == RunStage::kRunning || run.state.stage == RunStage::kFailed;
    if ((shows_all || is_news) && shown.size() < most) shown.push_back(&run);
  }
  size_t name_width = 0;
  for (const ShownRun* run : shown) name_width = std::max(name_width, display_width(run->name));

  std::vector<std::string> lines = {totals_to_text(title_, runs)};
  for (const ShownRun* run : shown) {
    lines.push_back(fmt::format("  {}", line_of(*run, name_width)));
  }
  // Back to the first line; each line clears what an earlier one left behind, and "\x1b[J" what is
  // below the last.
  std::string text = drawn_lines_ > 0 ? fmt::format("\x1b[{}A", drawn_lines_) : "";
  for (const std::string& line : lines) {
    text +=
        fmt::format("\r{}\x1b[K\n", cut_to_width(line, static_cast<size_t>(terminal.columns) - 1));
  }
  text += "\x1b[J";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  drawn_lines_ = static_cast<int>(lines.size());
}

void SweepDisplay::log_changes(const std::vector<ShownRun>& runs) {
  const bool is_first = logged_.empty();
  logged_.resize(runs.size(), RunStage::kWaiting);
  const auto now = std::chrono::steady_clock::now();
  if (is_first) last_draw_ = now;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (logged_[i] == runs[i].state.stage) continue;
    logged_[i] = runs[i].state.stage;
    const bool starts = logged_[i] == RunStage::kRunning;
    const std::string text = starts ? "starts on " + runs[i].device : state_to_text(runs[i].state);
    log_info("sweep", "{}: {}", runs[i].name, text);
  }
  if (now - last_draw_ < kFileInterval) return;
  last_draw_ = now;
  log_info("sweep", "{}", totals_to_text(title_, runs));
  for (const ShownRun& run : runs) {
    if (run.state.stage == RunStage::kRunning) {
      log_info("sweep", "{}: {}", run.name, state_to_text(run.state));
    }
  }
}

}  // namespace tigon
