#include "bench/op_bench.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/log.h"
#include "core/table.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

// More than the last cache of any GPU and of most processors.
constexpr int64_t kCacheBytes = int64_t{256} << 20;
constexpr int64_t kMostSets = 8;

std::vector<const OpCase*> chosen_ops(const std::vector<std::string>& names) {
  std::vector<const OpCase*> ops;
  for (const std::string& name : names) ops.push_back(&find_op_case(name));
  if (!ops.empty()) return ops;
  for (const OpCase& op : op_cases()) ops.push_back(&op);
  return ops;
}

/// Two numbers above 0 with a sign between them, written as in `example`.
std::pair<int64_t, int64_t> two_numbers(const std::string& text, const std::string& example) {
  const char between = example[example.find_first_not_of("0123456789")];
  std::array<int64_t, 2> numbers = {0, 0};
  const char* const end = text.data() + text.size();
  const auto [middle, first] = std::from_chars(text.data(), end, numbers[0]);
  if (first == std::errc() && middle != end && *middle == between) {
    const auto [last, second] = std::from_chars(middle + 1, end, numbers[1]);
    if (second == std::errc() && last == end && numbers[0] > 0 && numbers[1] > 0) {
      return {numbers[0], numbers[1]};
    }
  }
  throw UsageError(
      fmt::format("bench ops: expected two numbers above 0 as in {}, found '{}'", example, text));
}

const char* pass_name(Pass pass) {
  return pass == Pass::kForward ? "forward" : "forward + backward";
}

/// Times both passes on as many sets of inputs as no cache holds at once.
void measure(const OpCase& op, const OpBenchOptions& options, const Stopwatch& stopwatch,
             OpBenchResult& result) {
  log_info("bench", "{}", op.name);
  std::vector<OpCall> sets;
  sets.emplace_back(op, options.sizes, options.device, options.dtype);
  const int64_t bytes = std::max<int64_t>(sets[0].bytes(), 1);
  const int64_t count = std::clamp((kCacheBytes + bytes - 1) / bytes, int64_t{1}, kMostSets);
  while (static_cast<int64_t>(sets.size()) < count) {
    sets.emplace_back(op, options.sizes, options.device, options.dtype);
  }
  const auto element = static_cast<int64_t>(c10::elementSize(options.dtype));
  for (const Pass pass : {Pass::kForward, Pass::kForwardBackward}) {
    const Timing timing = stopwatch.time([&](int64_t call) {
      const OpCall& set = sets[static_cast<size_t>(call) % sets.size()];
      pass == Pass::kForward ? set.forward() : set.forward_backward();
    });
    const Work work = op.work(options.sizes, element, pass);
    result.measurements.push_back({.op = op.name,
                                   .pass = pass,
                                   .timing = timing,
                                   .work = work,
                                   .floor_seconds = result.ceilings.floor_seconds(work)});
  }
}

bool flash_window_runs(const OpBenchOptions& options) {
  const int64_t D = options.sizes.head_dim;
  return options.device.is_cuda() && options.dtype == at::kBFloat16 && D <= 256 && D % 8 == 0;
}

std::string sizes_text(const OpBenchOptions& options) {
  const OpSizes& sizes = options.sizes;
  return fmt::format("{} × {} tokens, {}/{} heads of {}, {}", sizes.lengths.size(),
                     sizes.lengths.front(), sizes.heads, sizes.kv_heads, sizes.head_dim,
                     dtype_name(to_dtype(options.dtype)));
}

/// Measured against least work.
struct Rates {
  explicit Rates(const OpMeasurement& m)
      : gb_per_s(static_cast<double>(m.work.bytes) / m.timing.median / 1e9),
        tflop_per_s(static_cast<double>(m.work.flop) / m.timing.median / 1e12),
        share_of_floor(m.floor_seconds / m.timing.median) {}
  double gb_per_s, tflop_per_s, share_of_floor;
};

Json measurement_to_json(const OpMeasurement& m) {
  const Rates rates(m);
  Json json = {{"op", m.op},
               {"pass", pass_name(m.pass)},
               {"bytes", m.work.bytes},
               {"flop", m.work.flop},
               {"gb_per_s", rates.gb_per_s},
               {"tflop_per_s", rates.tflop_per_s},
               {"floor_us", m.floor_seconds * 1e6},
               {"share_of_floor", rates.share_of_floor}};
  json.update(timing_to_json(m.timing));
  return json;
}

}  // namespace

OpSizes read_op_sizes(const std::string& shape, const std::string& heads, int64_t head_dim) {
  OpSizes sizes;
  const auto [segments, tokens] = two_numbers(shape, "16x1024");
  sizes.lengths.assign(static_cast<size_t>(segments), tokens);
  std::tie(sizes.heads, sizes.kv_heads) = two_numbers(heads, "32/8");
  sizes.head_dim = head_dim;
  if (sizes.heads % sizes.kv_heads != 0 || head_dim < 2 || head_dim % 2 != 0) {
    throw UsageError(fmt::format(
        "bench ops: expected KV heads that divide the heads and an even head size, found {} heads "
        "of {}",
        heads, head_dim));
  }
  return sizes;
}

OpBenchResult bench_ops(const OpBenchOptions& options) {
  const std::vector<const OpCase*> ops = chosen_ops(options.names);
  const Stopwatch stopwatch(options.device, options.repeats);
  OpBenchResult result;
  result.ceilings = measure_ceilings(stopwatch, options.dtype);
  log_info("bench", "{}", ceilings_to_text(result.ceilings));
  for (const OpCase* op : ops) {
    result.checks.push_back(check_op(*op, options.sizes, options.device, options.dtype));
    const OpCheck& check = result.checks.back();
    if (check.holds()) continue;
    fail("{}: {}: relative RMS {:.2e} against float64, expected at most {:.0e}", check.op,
         check.worst, check.error, check.tolerance);
  }
  for (const OpCase* op : ops) {
    measure(*op, options, stopwatch, result);
    if (op->name == "liger_attention" && flash_window_runs(options)) {
      measure(flash_window_case(), options, stopwatch, result);
    }
  }
  return result;
}

BenchReport report_ops(const OpBenchOptions& options, const OpBenchResult& result) {
  BenchReport report{.title = "Ops, " + sizes_text(options)};
  std::set<std::string> sources = {"src/ops/chunks", "src/ops/matrix_tiles.cuh"};
  for (const OpCheck& check : result.checks) {
    const OpCase& op = find_op_case(check.op);
    sources.insert("src/ops/" + (op.folder.empty() ? op.name : op.folder));
  }
  report.sources.assign(sources.begin(), sources.end());
  std::vector<std::vector<std::string>> rows;
  Json checks = Json::array(), measurements = Json::array();
  for (const OpCheck& check : result.checks) {
    rows.push_back({check.op, fmt::format("{:.1e}", check.error),
                    fmt::format("{:.0e}", check.tolerance), check.worst});
    checks.push_back({{"op", check.op},
                      {"relative_rms", check.error},
                      {"tolerance", check.tolerance},
                      {"worst", check.worst}});
  }
  report.text = ceilings_to_text(result.ceilings) + "\n\n" +
                format_table({"against float64", "relative RMS", "allowed", "worst"}, rows) + "\n";
  rows.clear();
  for (const OpMeasurement& m : result.measurements) {
    const Rates rates(m);
    rows.push_back({m.op, pass_name(m.pass), fmt::format("{:.1f}", m.timing.median * 1e6),
                    fmt::format("{:.1f}", m.timing.min * 1e6),
                    fmt::format("{:.1f}", m.timing.max * 1e6),
                    fmt::format("{:.4g}", static_cast<double>(m.work.bytes) / 1e6),
                    fmt::format("{:.4g}", static_cast<double>(m.work.flop) / 1e9),
                    fmt::format("{:.4g}", rates.gb_per_s), fmt::format("{:.3g}", rates.tflop_per_s),
                    fmt::format("{:.1f}", m.floor_seconds * 1e6),
                    fmt::format("{:.0f} %", 100 * rates.share_of_floor)});
    measurements.push_back(measurement_to_json(m));
  }
  report.text += format_table({sizes_text(options), "pass", "median µs", "min", "max", "MB",
                               "GFLOP", "GB/s", "TFLOP/s", "floor µs", "of floor"},
                              rows);
  report.json = {
      {"device", options.device.str()},     {"dtype", dtype_name(to_dtype(options.dtype))},
      {"segments", options.sizes.lengths},  {"heads", options.sizes.heads},
      {"kv_heads", options.sizes.kv_heads}, {"head_dim", options.sizes.head_dim},
      {"repeats", options.repeats},         {"ceilings", ceilings_to_json(result.ceilings)},
      {"checks", std::move(checks)},        {"measurements", std::move(measurements)}};
  return report;
}

BenchReport list_implementations(const OpBenchOptions& options) {
  constexpr std::array<int64_t, 4> kHeadSizes = {64, 96, 128, 256};
  std::vector<std::string> header = {"heads of"};
  for (const int64_t size : kHeadSizes) header.push_back(fmt::format("{}", size));
  std::vector<std::vector<std::string>> rows;
  Json implementations = Json::array();
  for (const OpCase* op : chosen_ops(options.names)) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const std::string type(dtype_name(to_dtype(dtype)));
      rows.push_back({op->name + ", " + type});
      for (const int64_t size : kHeadSizes) {
        OpSizes sizes;
        sizes.head_dim = size;
        const std::string server = served_by(*op, sizes, options.device, dtype);
        rows.back().push_back(server);
        implementations.push_back(
            {{"op", op->name}, {"head_dim", size}, {"dtype", type}, {"served_by", server}});
      }
    }
  }
  return {.title = "What serves each op",
          .json = {{"device", options.device.str()}, {"implementations", implementations}},
          .text = format_table(header, rows)};
}

}  // namespace tigon
