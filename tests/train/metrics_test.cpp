#include "train/metrics.h"

#include "io/atomic_file.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

StepMetrics example(int64_t step) {
  return {.step = step,
          .tokens = 128 * step,
          .loss = 3.25f,
          .lr = 1e-3,
          .grad_norm = 0.1f,
          .tokens_per_s = 1234.56,
          .memory = 1 << 20};
}

}  // namespace

TEST_CASE("a metrics line holds every field, numbers as short as they are", "[metrics]") {
  const TemporaryFolder folder;
  {
    MetricsFile metrics(folder / "metrics.jsonl", 0);
    metrics.write(example(1));
    metrics.write_validation(1, 3.5);
    metrics.sync();
  }
  CHECK(read_text_file(folder / "metrics.jsonl") ==
        "{\"step\":1,\"tokens\":128,\"loss\":3.25,\"lr\":0.001,\"grad_norm\":0.1,"
        "\"tokens_per_s\":1234.6,\"memory\":1048576}\n{\"step\":1,\"val_loss\":3.5}\n");
}

TEST_CASE("reopening cuts the lines after a step", "[metrics]") {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsFile metrics(path, 0);
    for (int step = 1; step <= 5; ++step) metrics.write(example(step));
    metrics.write_validation(5, 3);
  }
  write_file_atomically(path, read_text_file(path) + "{\"step\":6,\"tok");  // killed while writing
  { MetricsFile metrics(path, 3); }
  const auto lines = read_metrics(path);
  REQUIRE(lines.size() == 3);
  CHECK(lines.back().at("step") == 3);
  { MetricsFile metrics(path, 0); }
  CHECK(read_metrics(path).empty());
}

TEST_CASE("a broken line inside a metrics file is refused", "[metrics]") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "metrics.jsonl", "{\"step\":1}\nnonsense\n{\"step\":2}\n");
  check_refused([&] { read_metrics(folder / "metrics.jsonl"); }, "line 2");
}
