// `tigon bench ops`: each op checked, then timed beside its floor.
#pragma once
#include <string>
#include <vector>

#include "bench/op_call.h"
#include "bench/report.h"

namespace tigon {

/// Sizes as they are written: segments × tokens of each ("16x1024"), heads and KV heads ("32/8").
/// Throws UsageError for other forms and for sizes that do not fit together.
OpSizes read_op_sizes(const std::string& shape, const std::string& heads, int64_t head_dim);

struct OpBenchOptions {
  std::vector<std::string> names = {};  // of ops; empty: all
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  OpSizes sizes = {};
  int64_t repeats = 30;
};

struct OpMeasurement {
  std::string op;
  Pass pass = Pass::kForward;
  Timing timing;
  Work work;
  double floor_seconds = 0;
};

struct OpBenchResult {
  Ceilings ceilings;
  std::vector<OpCheck> checks;
  std::vector<OpMeasurement> measurements;
};

/// Measures the ceilings, checks every chosen op, and times its forward and forward + backward pass
/// on inputs that no cache holds. Throws UsageError for an unknown name, Error if a
/// check fails: nothing is timed then.
OpBenchResult bench_ops(const OpBenchOptions& options);
BenchReport report_ops(const OpBenchOptions& options, const OpBenchResult& result);

/// Which implementation serves each chosen op for heads of 64, 96, 128 and 256 in float32 and
/// bfloat16 on the device.
BenchReport list_implementations(const OpBenchOptions& options);

}  // namespace tigon
