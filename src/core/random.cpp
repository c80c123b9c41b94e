#include "core/random.h"

#include <numeric>
#include <utility>

namespace tigon {

namespace {

// The constants of splitmix64: 2^64 divided by the golden ratio, and the multipliers of its mixer.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

uint64_t derive_seed(uint64_t seed, std::string_view purpose) {
  // FNV-1a over the letters.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : purpose) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  }
  return mix(mix(seed + kStep) ^ hash);
}

uint64_t Random::next() {
  state_ += kStep;
  return mix(state_);
}

uint64_t Random::below(uint64_t bound) {
  // Values under 2^64 mod bound are drawn again: the rest is a whole number of bounds.
  const uint64_t rejected = (0 - bound) % bound;
  uint64_t value = next();
  while (value < rejected) value = next();
  return value % bound;
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

std::vector<int64_t> Random::permutation(int64_t size) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

}  // namespace tigon
