#include "ops/gated_scan/gated_scan_arguments.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <utility>

#include "ops/checks.h"

namespace tigon {
namespace {

constexpr const char* kOp = "gated_scan";

void check_input(const char* name, const at::Tensor& x, const at::Tensor& q) {
  check_floating(kOp, name, x);
  check_device(kOp, name, x, q);
  TORCH_CHECK((x.scalar_type() == at::kDouble) == (q.scalar_type() == at::kDouble), "[gated_scan] ",
              name, ": expected float64 exactly if q (", q.scalar_type(), ") is, found ",
              x.scalar_type());
}

bool divides(int64_t a, int64_t b) {
  return a > 0 && b % a == 0;
}

void check_heads(int64_t H, int64_t Hk, int64_t Hv, int64_t Hg, int64_t Hs) {
  const std::array<std::pair<const char*, int64_t>, 3> heads = {
      {{"k", Hk}, {"v", Hv}, {"log_gate", Hg}}};
  for (const auto& [name, count] : heads) {
    TORCH_CHECK(divides(count, H), "[gated_scan] ", name,
                ": expected a number of heads that divides the ", H, " of q, found ", count);
  }
  for (const auto& [name, count] : heads) {
    for (const auto& [other, other_count] : heads) {
      TORCH_CHECK(divides(count, other_count) || divides(other_count, count), "[gated_scan] ", name,
                  ": expected a number of heads that divides or is a multiple of the ", other_count,
                  " of ", other, ", found ", count);
    }
  }
  TORCH_CHECK(Hs > 0 && divides(std::max({Hk, Hv, Hg}), Hs) && divides(Hs, H),
              "[gated_scan] state_heads: expected a multiple of ", std::max({Hk, Hv, Hg}),
              " (the most heads among k, v and log_gate) that divides the ", H,
              " heads of q, found ", Hs);
}

}  // namespace

GatedScanCall check_gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& gate, const Segments& segments,
                               const std::optional<at::Tensor>& initial_state,
                               const GatedScanOptions& options) {
  check_input("q", q, q);
  check_input("k", k, q);
  check_input("v", v, q);
  check_input("log_gate", gate, q);
  TORCH_CHECK(options.delay >= 0, "[gated_scan] delay: expected 0 or more, found ", options.delay);
  const Segments& key_segments = options.key_segments.value_or(segments);
  const int64_t M = key_segments.total;
  check_shape(kOp, "q", q, {segments.total, kAnySize, kAnySize});
  check_shape(kOp, "k", k, {M, kAnySize, q.size(2)});
  check_shape(kOp, "v", v, {M, kAnySize, kAnySize});
  const int64_t K = q.size(2);
  const at::Tensor log_gate = gate.dim() == 2 ? gate.unsqueeze(-1) : gate;
  const bool is_fixed = gate.dim() == 3 && gate.size(0) == 1;
  TORCH_CHECK(log_gate.dim() == 3 && (log_gate.size(0) == M || is_fixed) &&
                  (log_gate.size(2) == K || log_gate.size(2) == 1),
              "[gated_scan] log_gate: expected [", M, ", heads], [", M, " or 1, heads, 1] or [", M,
              " or 1, heads, ", K, "], found ", gate.sizes());
  const int64_t Hk = k.size(1), Hv = v.size(1), Hg = log_gate.size(1);
  const int64_t Hs = options.state_heads == 0 ? std::max({Hk, Hv, Hg}) : options.state_heads;
  check_heads(q.size(1), Hk, Hv, Hg, Hs);
  GatedScanCall call{.q = q,
                     .k = k,
                     .v = v,
                     .log_gate = log_gate,
                     .segments = segments,
                     .key_segments = key_segments,
                     .initial_state = {},
                     .state_heads = Hs,
                     .delay = options.delay,
                     .normalizer = options.normalizer};
  if (initial_state.has_value() && initial_state->defined()) {
    check_input("initial_state", *initial_state, q);
    check_shape(kOp, "initial_state", *initial_state,
                {segments.count(), Hs, K, v.size(2) + (options.normalizer ? 1 : 0)});
    call.initial_state = *initial_state;
  }
  return call;
}

GatedScanArguments::GatedScanArguments(const GatedScanCall& call) {
  const at::ScalarType dtype = accumulation_type(call.q.scalar_type());
  const int64_t M = call.key_segments.total;
  log_gate = call.log_gate.expand({M, -1, -1});
  v = call.v;
  if (call.normalizer) {
    v = at::cat({v.to(dtype), at::ones({M, v.size(1), 1}, v.options().dtype(dtype))}, 2);
  }
  if (call.initial_state.defined()) {
    initial_state = call.initial_state.to(dtype);
  } else {
    initial_state = at::zeros({call.segments.count(), call.state_heads, call.q.size(2), v.size(2)},
                              call.q.options().dtype(dtype));
  }
}

}  // namespace tigon
