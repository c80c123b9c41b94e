#include "ops/gated_scan/without_delay.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace tigon {
namespace {

/// Whether the steps of some queries take in no key: their segment has no such key yet.
bool steps_lack_keys(const GatedScanCall& call) {
  for (int64_t s = 0; s < call.segments.count(); ++s) {
    const int64_t queries = call.segments.lengths[s], keys = call.key_segments.lengths[s];
    if (queries > 0 && keys - queries < call.delay) return true;
  }
  return false;
}

/// The rows of keys by their numbers.
RowsOfSteps rows_by_number(const GatedScanCall& call) {
  const at::Device device = call.segments.cu_seqlens.device();
  at::Tensor rows = at::empty({call.segments.total}, at::kLong);
  at::Tensor missing = at::zeros({call.segments.total}, at::kBool);
  int64_t* row = rows.data_ptr<int64_t>();
  bool* is_missing = missing.data_ptr<bool>();
  int64_t key_end = 0;
  for (int64_t s = 0; s < call.segments.count(); ++s) {
    const int64_t first_key = key_end;
    key_end += call.key_segments.lengths[s];
    for (int64_t i = call.segments.lengths[s]; i > 0; --i) {
      const int64_t key = key_end - i - call.delay;
      *is_missing++ = key < first_key;
      *row++ = std::max(key, first_key);
    }
  }
  return [rows = rows.to(device), missing = missing.to(device).view({-1, 1, 1}),
          misses_any = steps_lack_keys(call)](const at::Tensor& x) {
    const at::Tensor taken = x.index_select(0, rows);
    return misses_any ? taken.masked_fill(missing, 0) : taken;
  };
}

bool has_nothing_to_do(const GatedScanCall& call) {
  return call.delay == 0 && call.segments.lengths == call.key_segments.lengths;
}

}  // namespace

GatedScanCall without_delay(const GatedScanCall& call) {
  return has_nothing_to_do(call) ? call : without_delay(call, rows_by_number(call));
}

GatedScanCall without_delay(const GatedScanCall& call, const RowsOfSteps& rows_of_steps) {
  if (has_nothing_to_do(call)) return call;
  GatedScanCall result = call;
  result.k = rows_of_steps(call.k);
  result.v = rows_of_steps(call.v);
  const bool is_fixed = call.log_gate.size(0) == 1;
  // Steps without a key must not let a state fade that is there already.
  const bool fades = call.initial_state.defined() && steps_lack_keys(call);
  if (!is_fixed || fades) {
    result.log_gate = rows_of_steps(call.log_gate.expand({call.key_segments.total, -1, -1}));
  }
  result.key_segments = call.segments;
  result.delay = 0;
  return result;
}

}  // namespace tigon
