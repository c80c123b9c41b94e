#include "train/data_rows.h"

#include "eval/perplexity.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tolerance.h"
#include "train/run_parts.h"
#include "train/step_runner.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// Instructions and answers of about 60 tokens; every third answer is short, one line is broken.
std::string write_instructions(const TinyRun& run) {
  std::string lines = "broken\n";
  for (int i = 0; i < 40; ++i) {
    const auto seed = static_cast<uint64_t>(i);
    const Json record = {{"instruction", tiny_text(3, seed)},
                         {"output", tiny_text(i % 3 == 0 ? 3 : 40, seed + 100)}};
    lines += record.dump() + "\n";
  }
  return run.folder().write("train.jsonl", lines).string();
}

std::vector<std::string> alpaca(const TinyRun& run) {
  return {"data.train={path: " + write_instructions(run) + ", format: alpaca, on_bad_record: skip}",
          "data.order=file", "data.seq_len=128", "lora.dropout=0"};
}

}  // namespace

TEST_CASE("a training step's loss is the loss of what its rows count", "[data]") {
  const TinyRun run;
  RunConfig config = run.config(alpaca(run));
  RunParts parts = build_run_parts(config);
  const RowSet first = parts.train_rows->entries().front().rows.part(0, config.rows_per_step());
  const LossResult expected =
      evaluate_loss(parts.loaded.model, parts.loaded.stack, first, 1, true, "test");
  CHECK(expected.tokens < config.rows_per_step() * 100);
  StepRunner runner(config, parts);
  CHECK(runner.step(1e-3)[0].item<double>() == Approx(expected.nats_per_token).epsilon(kFloat32Op));
}

TEST_CASE("epochs are rounded up to whole steps, and the data are described", "[data]") {
  const TinyRun run;
  std::vector<std::string> overrides = alpaca(run);
  overrides.insert(overrides.end(), {"train.steps=null", "train.epochs=2"});
  RunConfig config = run.config(overrides);
  CHECK_FALSE(config.is_total_known());
  const RunParts parts = build_run_parts(config);
  const int64_t rows = parts.train_rows->size();
  CHECK(config.total_steps() == (2 * rows + 3) / 4);
  const TokenShard& shard = parts.train_rows->entries().front().rows.shards().front();
  const Json described = describe_sources(config.train_sources, {&shard}).at(0);
  CHECK(described.at("documents") == 40);
  CHECK(described.at("skipped").at("malformed") == 1);
  CHECK(described.at("counted_tokens") < described.at("tokens"));

  overrides.push_back("train.schedule.warmup_steps=1000");
  RunConfig long_warmup = run.config(overrides);
  check_refused<UsageError>([&] { build_run_parts(long_warmup); },
                            "train.schedule.warmup_steps: expected at most the run's");
}

TEST_CASE("a weighted mixture trains alike each time, and keeps its limits", "[data]") {
  const TinyRun run;
  const std::string text = (run.folder() / "train.txt").string();
  const std::string entries = "data.train=[{path: " + write_instructions(run) +
                              ", format: alpaca, on_bad_record: skip, weight: 1}, {path: " + text +
                              ", weight: 2";
  const std::string constant = "train.schedule={kind: constant}";
  run_training(run.config({entries + "}]", constant}), false);
  run_training(run.config({entries + "}]", constant, "train.steps=4", run.in_folder("cut")}),
               false);
  const Json json = read_json_file(run.run_folder() / "run.json");
  const Json& sources = json.at("data").at("train").at("sources");
  REQUIRE(sources.size() == 2);
  CHECK(sources[0].at("weight") == 1);
  CHECK(sources[1].at("counted_tokens") == sources[1].at("tokens"));
  const auto whole = lines_without_timing(run.run_folder() / "metrics.jsonl");
  const auto part = lines_without_timing(run.folder() / "cut" / "metrics.jsonl");
  REQUIRE(part.size() > 4);
  for (size_t i = 0; i < 4; ++i) CHECK(part[i] == whole[i]);

  const std::string limits = entries + ", epochs: 1}]";
  CHECK_NOTHROW([&] {
    RunConfig config = run.config({limits});
    build_run_parts(config);
  }());
  RunConfig limited = run.config({entries.substr(0, entries.find(", weight: 1")) +
                                  ", weight: 1, max_tokens: 64}, {path: " + text +
                                  ", weight: 2, max_tokens: 320}]"});
  check_refused([&] { build_run_parts(limited); },
                "data.train: the limits of its entries (epochs, max_tokens) give 12 rows; the "
                "run's 12 steps of 4 rows need 48");
}
