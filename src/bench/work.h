// What a piece of work needs at least, and how fast the device can be.
#pragma once
#include <cstdint>
#include <string>

#include "bench/stopwatch.h"

namespace tigon {

/// The least a computation can do: bytes read and written once, and the floating-point operations
/// of its products, two a multiply-add (pointwise arithmetic is not counted).
struct Work {
  int64_t bytes = 0;
  int64_t flop = 0;

  Work operator+(const Work& other) const { return {bytes + other.bytes, flop + other.flop}; }
  bool operator==(const Work&) const = default;
};

/// What the device reaches on the two things it does best.
struct Ceilings {
  double bytes_per_s = 0;             // of a large copy, reads and writes counted
  double flop_per_s = 0;              // of a large matrix product
  at::ScalarType dtype = at::kFloat;  // of the matrix product

  /// Seconds that the work takes if it moves its bytes and does its products at these rates, both
  /// at once.
  double floor_seconds(const Work& work) const;
};

/// Copies 1 GiB and multiplies matrices of 8192 × 8192 on a GPU, 64 MiB and 1024 × 1024 on the CPU.
Ceilings measure_ceilings(const Stopwatch& stopwatch, at::ScalarType dtype);
/// {"copy_gb_per_s", "matrix_tflop_per_s", "matrix_dtype"}.
Json ceilings_to_json(const Ceilings& ceilings);
std::string ceilings_to_text(const Ceilings& ceilings);

}  // namespace tigon
