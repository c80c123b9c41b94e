#include "ops/gated_scan/without_delay.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace tigon {
namespace {

/// The row of the key that each query's step takes in.
class KeyOfStep {
 public:
  KeyOfStep(const Segments& queries, const Segments& keys, int64_t delay) {
    const at::Device device = queries.cu_seqlens.device();
    at::Tensor rows = at::empty({queries.total}, at::kLong);
    at::Tensor missing = at::zeros({queries.total}, at::kBool);
    int64_t* row = rows.data_ptr<int64_t>();
    bool* is_missing = missing.data_ptr<bool>();
    int64_t key_end = 0;
    for (int64_t s = 0; s < queries.count(); ++s) {
      const int64_t first_key = key_end;
      key_end += keys.lengths[s];
      for (int64_t i = queries.lengths[s]; i > 0; --i) {
        const int64_t key = key_end - i - delay;
        misses_any_ = misses_any_ || key < first_key;
        *is_missing++ = key < first_key;
        *row++ = std::max(key, first_key);
      }
    }
    rows_ = rows.to(device);
    missing_ = missing.to(device).view({-1, 1, 1});
  }

  bool misses_any() const { return misses_any_; }

  /// [M, …] → [N, …], zeros where a segment has no such key.
  at::Tensor of(const at::Tensor& x) const {
    const at::Tensor taken = x.index_select(0, rows_);
    return misses_any_ ? taken.masked_fill(missing_, 0) : taken;
  }

 private:
  at::Tensor rows_;     // [N] int64
  at::Tensor missing_;  // [N, 1, 1] bool
  bool misses_any_ = false;
};

}  // namespace

GatedScanCall without_delay(const GatedScanCall& call) {
  if (call.delay == 0 && call.segments.lengths == call.key_segments.lengths) return call;
  const KeyOfStep key(call.segments, call.key_segments, call.delay);
  GatedScanCall result = call;
  result.k = key.of(call.k);
  result.v = key.of(call.v);
  const bool is_fixed = call.log_gate.size(0) == 1;
  // Steps without a key must not let a state fade that is there already.
  const bool fades = key.misses_any() && call.initial_state.defined();
  if (!is_fixed || fades) {
    result.log_gate = key.of(call.log_gate.expand({call.key_segments.total, -1, -1}));
  }
  result.key_segments = call.segments;
  result.delay = 0;
  return result;
}

}  // namespace tigon
