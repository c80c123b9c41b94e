// What the benchmarks print, as tables and JSON, and how it is written down.
#include "bench/report.h"

#include <filesystem>
#include <fstream>

#include "bench/op_bench.h"
#include "bench/train_bench.h"
#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

OpBenchResult op_result() {
  return {.ceilings = {.bytes_per_s = 4e12, .flop_per_s = 8e14, .dtype = at::kBFloat16},
          .checks = {{.op = "rope", .worst = "output", .error = 1e-3, .tolerance = 2e-2}},
          .measurements = {{.op = "rope",
                            .pass = Pass::kForward,
                            .timing = {.median = 2e-4, .min = 1e-4, .max = 3e-4},
                            .work = {.bytes = 400'000'000, .flop = 2'000'000'000},
                            .floor_seconds = 1e-4}}};
}

TrainBenchResult train_result() {
  return {.parameters = 1000,
          .trained_parameters = 10,
          .step = {.median = 0.1, .min = 0.09, .max = 0.2},
          .first_loss = 5,
          .last_loss = 4.5,
          .peak_memory_bytes = int64_t{3} << 30,
          .products = {{"o", ProductKind::kForward, 4, 2, 3, 1}},
          .products_time = {.median = 0.05, .min = 0.05, .max = 0.06},
          .model_flop = 20'000'000'000'000,
          .ceilings = {.bytes_per_s = 4e12, .flop_per_s = 8e14, .dtype = at::kBFloat16}};
}

}  // namespace

TEST_CASE("ops as JSON and as a table") {
  OpBenchOptions options{.dtype = at::kBFloat16};
  options.sizes = read_op_sizes("16x1024", "32/8", 64);
  const BenchReport report = report_ops(options, op_result());
  const Json& measured = report.json["measurements"][0];
  CHECK(measured["op"] == "rope");
  CHECK(measured["pass"] == "forward");
  CHECK(measured["median_us"].get<double>() == Approx(200));
  CHECK(measured["min_us"].get<double>() == Approx(100));
  CHECK(measured["max_us"].get<double>() == Approx(300));
  CHECK(measured["gb_per_s"].get<double>() == Approx(2000));
  CHECK(measured["tflop_per_s"].get<double>() == Approx(10));
  CHECK(measured["floor_us"].get<double>() == Approx(100));
  CHECK(measured["share_of_floor"].get<double>() == Approx(0.5));
  CHECK(report.json["checks"][0]["relative_rms"] == 1e-3);
  CHECK(report.json["ceilings"]["copy_gb_per_s"].get<double>() == Approx(4000));
  CHECK(report.json["ceilings"]["matrix_tflop_per_s"].get<double>() == Approx(800));
  for (const char* part : {"copy 4000 GB/s, bfloat16 matrix product 800 TFLOP/s",
                           "16 × 1024 tokens, 32/8 heads of 64, bfloat16", "200.0", "50 %"}) {
    INFO(report.text << part);
    CHECK(report.text.find(part) != std::string::npos);
  }
}

TEST_CASE("a report of ops names the sources that there are") {
  OpBenchOptions options{.dtype = at::kBFloat16};
  options.sizes = read_op_sizes("16x1024", "32/8", 64);
  for (const OpCase& op : op_cases()) {
    OpBenchResult result = op_result();
    result.checks[0].op = op.name;
    const BenchReport report = report_ops(options, result);
    CHECK(report.sources.size() == 3);
    for (const std::string& source : report.sources) {
      INFO(op.name << ": " << source);
      CHECK(std::filesystem::exists(std::filesystem::path(TIGON_SOURCE_FOLDER) / source));
    }
  }
}

TEST_CASE("a training step as JSON and as a table") {
  const TrainBenchOptions options{.dtype = at::kBFloat16};
  const BenchReport report = report_train(options, train_result());
  CHECK(report.json["tokens_per_s"].get<double>() == Approx(81920));
  CHECK(report.json["model_tflop_per_s"].get<double>() == Approx(200));
  CHECK(report.json["share_of_matrix_ceiling"].get<double>() == Approx(0.25));
  CHECK(report.json["share_of_matrix_products"].get<double>() == Approx(0.5));
  CHECK(report.json["product_shapes"][0]["kind"] == "forward");
  for (const char* part :
       {"1B shape, liger-gla, LoRA of rank 8, 8 rows of 1024 tokens, bfloat16", "81920",
        "100.00 (90.00 to 200.00)", "50 %", "25 %", "3.00", "5.0000, 4.5000"}) {
    INFO(report.text << part);
    CHECK(report.text.find(part) != std::string::npos);
  }
}

TEST_CASE("sizes are read as they are written") {
  const OpSizes sizes = read_op_sizes("2x100", "6/3", 16);
  CHECK(sizes.lengths == std::vector<int64_t>{100, 100});
  CHECK(sizes.heads == 6);
  CHECK(sizes.kv_heads == 3);
  for (const std::string shape : {"", "2", "2x", "x2", "0x5", "2x5x", "2/5", "-1x5"}) {
    check_refused<UsageError>([&] { read_op_sizes(shape, "6/3", 16); },
                              "as in 16x1024, found '" + shape + "'");
  }
  check_refused<UsageError>([] { read_op_sizes("2x5", "6/4", 16); }, "found 6/4 heads");
  check_refused<UsageError>([] { read_op_sizes("2x5", "6/3", 15); }, "found 6/3 heads of 15");
}

TEST_CASE("a record appends a section to a file") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "performance.md";
  const BenchReport report{.title = "Ops", .json = {}, .text = "op  µs\n"};
  const std::string section = record_section(report, "A GPU", "abc", "tigon bench ops");
  CHECK(section ==
        "## Ops\n\nA GPU, commit abc.\n\n```bash\ntigon bench ops\n```\n\n```\nop  µs\n```\n");
  const BenchReport judged{
      .title = "Ops", .text = "op  µs\n", .sources = {"src/ops/rope", "src/ops/chunks"}};
  CHECK(record_section(judged, "A GPU", "abc", "tigon bench ops")
            .starts_with(
                "## Ops\n\n<!-- sources: src/ops/rope src/ops/chunks -->\nA GPU, commit abc.\n"));
  record(report, at::kCPU, file);
  const std::string once = content(file);
  CHECK(once.starts_with("## Ops\n"));
  CHECK(once.find("bench_test") != std::string::npos);
  record(report, at::kCPU, file);
  CHECK(content(file) == once + "\n" + once);
  check_refused<Error>([&] { record(report, at::kCPU, folder / "missing" / "file.md"); },
                       "missing");
}
