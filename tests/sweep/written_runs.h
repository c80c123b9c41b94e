// Run folders written by hand: their numbers are known.
#pragma once
#include <fmt/format.h>

#include <cmath>

#include "io/atomic_file.h"
#include "io/json_file.h"
#include "support/temporary_folder.h"

namespace tigon::testing {

struct WrittenRun {
  std::string name;
  std::string recipe = "liger-gla";
  int64_t window_keys = 64, seed = 0, tokens = 1'000'000;
  double trained = 3.2, recovered = 0.5;
  int64_t state_bytes = 48 * 1024;
  std::string status = "complete", error = {};
};

/// Writes config.yaml, run.json and metrics.jsonl with three steps and a validation.
inline void write_run(const std::filesystem::path& folder, const WrittenRun& run) {
  const std::filesystem::path path = folder / run.name;
  std::filesystem::create_directories(path);
  const std::string gate = run.recipe == "window" ? "" : "  gate_normalizer: 16\n";
  write_file_atomically(
      path / "config.yaml",
      fmt::format("seed: {}\ndevice: cpu\nlinearize:\n  recipe: {}\n  window_keys: {}\n{}"
                  "data:\n  seed: {}\ntrain:\n  tokens: {}\n  seq_len: 32\nrun:\n  folder: {}\n",
                  run.seed, run.recipe, run.window_keys, gate, run.seed, run.tokens,
                  path.string()));
  Json json = {{"status", run.status},
               {"hardware", {{"processor", "A processor"}}},
               {"plan", {{"recipe", run.recipe}}},
               {"parameters", {{"trainable", 147456}}},
               {"planned", {{"steps", 30}}},
               {"steps", run.status == "complete" ? 30 : 12},
               {"tokens", run.tokens},
               {"wall_seconds", 48.25},
               {"tokens_per_s", 20725.4},
               {"peak_memory_bytes", 3 * (int64_t{1} << 30)},
               {"state",
                {{"bytes", run.state_bytes},
                 {"bytes_per_layer_and_kv_head", static_cast<double>(run.state_bytes) / 4}}}};
  if (!run.error.empty()) json["error"] = run.error;
  if (run.status == "complete") {
    const auto row = [](double loss) { return Json{{"nats_per_token", loss}}; };
    json["results"] = {{"teacher", row(3.1049)},      {"window_only", row(3.2976)},
                       {"own_window", row(3.2976)},   {"converted", row(6.4075)},
                       {"trained", row(run.trained)}, {"branch_off", row(run.trained + 0.0125)}};
    json["results"]["trained"]["recovered"] = run.recovered;
    json["weight_change"] = {{"all", 0.0312}, {"q_proj", 0.04}};
  }
  write_json_file(path / "run.json", json);
  std::string lines;
  for (int step = 1; step <= 3; ++step) {
    const int64_t tokens = run.tokens * step / 3;
    lines += Json({{"step", step},
                   {"tokens", tokens},
                   {"loss", 4.0 - 0.2 * step},
                   {"lr", 1e-3},
                   {"grad_norm", 1.0}})
                 .dump() +
             "\n" + Json({{"step", step}, {"val_loss", run.trained + 0.1 * (3 - step)}}).dump() +
             "\n";
  }
  write_file_atomically(path / "metrics.jsonl", lines);
}

/// Two recipes at several window widths, three seeds of one, a failed and an unfinished run.
inline void write_runs(const std::filesystem::path& folder) {
  for (const int64_t window : {16, 64, 256}) {
    const double loss = 3.4 - 0.03 * std::log2(static_cast<double>(window));
    write_run(folder, {.name = fmt::format("window_window_keys-{}", window),
                       .recipe = "window",
                       .window_keys = window,
                       .trained = loss,
                       .recovered = (3.2976 - loss) / (3.2976 - 3.1049),
                       .state_bytes = window * 512});
  }
  for (const int64_t seed : {0, 1, 2}) {
    write_run(folder, {.name = fmt::format("liger-gla_window_keys-64_seed-{}", seed),
                       .seed = seed,
                       .trained = 3.13 + 0.001 * static_cast<double>(seed),
                       .recovered = 0.85 + 0.01 * static_cast<double>(seed)});
  }
  write_run(folder, {.name = "liger-gla_window_keys-16",
                     .window_keys = 16,
                     .status = "failed",
                     .error = "step 12: the loss is nan\nsecond line"});
  write_run(folder, {.name = "liger-gla_window_keys-256", .window_keys = 256, .status = "running"});
}

}  // namespace tigon::testing
