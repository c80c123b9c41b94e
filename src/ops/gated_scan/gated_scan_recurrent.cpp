// The definition of gated_scan, token by token.
#include <ATen/Functions.h>

#include <vector>

#include "ops/gated_scan/gated_scan_arguments.h"

namespace tigon {
namespace {

// [heads, D] → [state_heads, D].
at::Tensor spread(const at::Tensor& x, int64_t state_heads) {
  return x.repeat_interleave(state_heads / x.size(0), 0);
}

}  // namespace

GatedScanResult gated_scan_recurrent(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& log_gate, const Segments& segments,
                                     const std::optional<at::Tensor>& initial_state,
                                     const GatedScanOptions& options) {
  const GatedScanCall call = check_gated_scan(q, k, v, log_gate, segments, initial_state, options);
  const GatedScanArguments x(call);
  const int64_t L = x.initial_state.size(1);
  const at::ScalarType dtype = x.initial_state.scalar_type();
  const at::Tensor a = x.log_gate.to(dtype).exp();  // [M, Hg, K or 1]
  std::vector<at::Tensor> outs, states;
  int64_t query = 0, first_key = 0;
  for (int64_t s = 0; s < segments.count(); ++s) {
    at::Tensor state = x.initial_state[s];  // [L, K, V]
    const int64_t prefix = call.key_segments.lengths[s] - segments.lengths[s];
    for (int64_t i = 0; i < segments.lengths[s]; ++i, ++query) {
      const int64_t place = prefix + i - options.delay;
      if (place >= 0) {
        const int64_t key = first_key + place;
        const at::Tensor kt = spread(k[key].to(dtype), L), vt = spread(x.v[key].to(dtype), L);
        state = spread(a[key], L).unsqueeze(-1) * state + kt.unsqueeze(-1) * vt.unsqueeze(-2);
      }
      outs.push_back(q[query].to(dtype).unflatten(0, {L, -1}).matmul(state).flatten(0, 1));
    }
    first_key += call.key_segments.lengths[s];
    states.push_back(state);
  }
  const at::Tensor out = outs.empty() ? x.v.new_empty({0, q.size(1), x.v.size(2)})
                                      : at::stack(outs).to(x.v.scalar_type());
  return {out, states.empty() ? x.initial_state : at::stack(states)};
}

}  // namespace tigon
