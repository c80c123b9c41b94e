// Random numbers that are the same on every machine and compiler (the standard library's
// distributions are not).
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace tigon {

/// A seed for one purpose ("data", "lora", …), so that parts of a run draw independently from one
/// user-given seed.
uint64_t derive_seed(uint64_t seed, std::string_view purpose);

/// A small counter-based generator (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  /// Uniform in [0, bound), without modulo bias. bound > 0.
  uint64_t below(uint64_t bound);
  /// Uniform in [0, 1) with 53 bits.
  double uniform();
  /// A permutation of 0 … size−1 (Fisher-Yates).
  std::vector<int64_t> permutation(int64_t size);

 private:
  uint64_t state_;
};

}  // namespace tigon
