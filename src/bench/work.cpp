#include "bench/work.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "model/tensor_io.h"

namespace tigon {

double Ceilings::floor_seconds(const Work& work) const {
  return std::max(static_cast<double>(work.bytes) / bytes_per_s,
                  static_cast<double>(work.flop) / flop_per_s);
}

Ceilings measure_ceilings(const Stopwatch& stopwatch, at::ScalarType dtype) {
  const at::NoGradGuard no_gradient;
  const bool is_gpu = !stopwatch.device().is_cpu();
  const auto options = at::device(stopwatch.device());
  Ceilings ceilings{.dtype = dtype};
  {
    const int64_t bytes = is_gpu ? int64_t{1} << 30 : int64_t{64} << 20;
    const at::Tensor from = at::zeros({bytes}, options.dtype(at::kByte));
    const at::Tensor to = at::empty_like(from);
    const Timing timing = stopwatch.time([&](int64_t) { to.copy_(from); });
    ceilings.bytes_per_s = 2 * static_cast<double>(bytes) / timing.median;
  }
  // Random numbers: a product of zeros takes less power, and a GPU then runs faster.
  const int64_t size = is_gpu ? 8192 : 1024;
  const at::Tensor a = at::randn({size, size}, options.dtype(dtype));
  const at::Tensor b = at::randn({size, size}, options.dtype(dtype));
  at::Tensor product = at::empty_like(a);
  const Timing timing = stopwatch.time([&](int64_t) { at::mm_out(product, a, b.t()); });
  const double edge = static_cast<double>(size);
  ceilings.flop_per_s = 2 * edge * edge * edge / timing.median;
  return ceilings;
}

Json ceilings_to_json(const Ceilings& ceilings) {
  return {{"copy_gb_per_s", ceilings.bytes_per_s / 1e9},
          {"matrix_tflop_per_s", ceilings.flop_per_s / 1e12},
          {"matrix_dtype", dtype_name(to_dtype(ceilings.dtype))}};
}

std::string ceilings_to_text(const Ceilings& ceilings) {
  return fmt::format("ceilings: copy {:.4g} GB/s, {} matrix product {:.3g} TFLOP/s",
                     ceilings.bytes_per_s / 1e9, dtype_name(to_dtype(ceilings.dtype)),
                     ceilings.flop_per_s / 1e12);
}

}  // namespace tigon
