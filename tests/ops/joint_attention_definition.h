// joint_attention from its formula, query by query: sums over all keys, no recurrence, no stable
// form, none of the op's parts. For float64.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/joint_attention/joint_attention.h"
#include "ops/segments.h"

namespace tigon::testing {

/// x [H, D] at one position, turned pair by pair (x_i, x_{i+D/2}).
inline at::Tensor turned(const at::Tensor& x, const at::Tensor& position,
                         const at::Tensor& inverse_frequencies, double scale) {
  const at::Tensor angle = position.to(x.scalar_type()) * inverse_frequencies.to(x.scalar_type());
  const at::Tensor first = x.chunk(2, -1)[0], second = x.chunk(2, -1)[1];
  return scale * at::cat({first * angle.cos() - second * angle.sin(),
                          second * angle.cos() + first * angle.sin()},
                         -1);
}

/// φ(z), z_e = Σ_d x_d w[d, e] + b_e. x [H, D], w [H, D, R], b [H, R] → [H, E].
inline at::Tensor mapped(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                         bool second_order) {
  const at::Tensor z = at::einsum("hd,hde->he", {x, w}) + b;
  if (!second_order) {
    const at::Tensor weights = at::cat({z.exp(), (-z).exp()}, -1);
    return weights / weights.sum(-1, true);
  }
  std::vector<at::Tensor> channels = {at::ones_like(z.select(-1, 0))};
  for (int64_t e = 0; e < z.size(-1); ++e) channels.push_back(z.select(-1, e));
  for (int64_t e = 0; e < z.size(-1); ++e) {
    for (int64_t f = e; f < z.size(-1); ++f) {
      const at::Tensor product = z.select(-1, e) * z.select(-1, f);
      channels.push_back(e == f ? product / std::sqrt(2.0) : product);
    }
  }
  return at::stack(channels, -1);
}

inline JointAttentionResult joint_attention_definition(const JointAttentionInputs& x,
                                                       const JointAttentionParameters& p,
                                                       const Segments& segments,
                                                       const Segments& key_segments,
                                                       const JointAttentionOptions& options,
                                                       const at::Tensor& initial_state) {
  const int64_t H = x.q.size(1), D = x.q.size(2), G = H / x.k.size(1), w = options.window_keys;
  const at::Tensor log_decay = -1 / at::clamp_min(p.log_tau.exp(), 8);  // [Hkv, E]
  // What the state's rows hold of key j: [Hkv, E, D+1].
  const auto entry = [&](int64_t j) {
    const at::Tensor features = mapped(x.k[j], p.w_k, p.b_k, p.second_order) *
                                x.log_importance[j].clamp(-6, 6).exp().unsqueeze(-1);
    const at::Tensor values = at::cat({x.v[j], at::ones_like(x.v[j].narrow(-1, 0, 1))}, -1);
    return features.unsqueeze(-1) * values.unsqueeze(-2);
  };
  std::vector<at::Tensor> outs, states;
  int64_t query = 0, first_key = 0;
  for (int64_t s = 0; s < segments.count(); ++s) {
    const int64_t last_key = first_key + key_segments.lengths[s];  // exclusive
    const int64_t first_query_key = last_key - segments.lengths[s];
    // The first key that is not in the initial state.
    const int64_t first_entry = std::max(first_query_key - w, first_key);
    at::Tensor state = initial_state[s];
    for (int64_t i = first_query_key; i < last_key; ++i, ++query) {
      const int64_t entered = i - w + 1 - first_entry;  // keys, if positive
      if (entered > 0) {
        state = (log_decay * entered).exp().unsqueeze(-1) * initial_state[s];
        for (int64_t j = first_entry; j <= i - w; ++j) {
          state = state + (log_decay * (i - w - j)).exp().unsqueeze(-1) * entry(j);
        }
      }
      const auto rotated = [&](const at::Tensor& rows, int64_t key) {
        return turned(rows, x.key_positions[key], x.inverse_frequencies, options.rope_scale);
      };
      const at::Tensor q = rotated(x.q[query], i);
      at::Tensor sums = at::zeros({H, D + 1}, x.q.options());
      for (int64_t j = std::max(i - w + 1, first_key); j <= i; ++j) {
        const at::Tensor k = rotated(x.k[j], j).repeat_interleave(G, 0);
        const at::Tensor v = x.v[j].repeat_interleave(G, 0);
        const at::Tensor weight = ((q * k).sum(-1, true) / std::sqrt(double(D))).exp();  // [H, 1]
        sums = sums + weight * at::cat({v, at::ones_like(weight)}, -1);
      }
      const at::Tensor features =
          mapped(x.q[query], p.w_q, p.b_q, p.second_order).unsqueeze(1);  // [H, 1, E]
      const at::Tensor far = features.matmul(state.repeat_interleave(G, 0)).squeeze(1);
      const at::Tensor has_mass = far.narrow(-1, D, 1) > 1e-30;
      sums = sums + at::where(has_mass, x.log_mix[query].exp().unsqueeze(-1) * far, 0.0);
      outs.push_back(sums.narrow(-1, 0, D) / sums.narrow(-1, D, 1));
    }
    first_key = last_key;
    states.push_back(state);
  }
  return {at::stack(outs), at::stack(states)};
}

}  // namespace tigon::testing
