#include "model/tigon_calibration.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/balanced_maps.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/rope/rope.h"

namespace tigon {
namespace {

constexpr double kLeastMass = 1e-9;
constexpr int64_t kQueryBlock = 256;  // queries whose scores with all keys are alive at once

/// log Σ_{j ≤ i−w} e^{s_ij} for the queries first … T − 1 of one segment. q [T, H, D] and k
/// [T, Hkv, D], rotated → [T − first, H]
at::Tensor log_far_mass(const at::Tensor& q, const at::Tensor& k, int64_t first,
                        int64_t window_keys) {
  const int64_t T = q.size(0), Hkv = k.size(1);
  const at::Tensor keys = k.permute({1, 2, 0});  // [Hkv, D, T]
  const at::Tensor key_index = at::arange(T, q.options().dtype(at::kLong));
  std::vector<at::Tensor> blocks;
  for (int64_t start = first; start < T; start += kQueryBlock) {
    const int64_t stop = std::min(start + kQueryBlock, T);
    const at::Tensor queries = q.slice(0, start, stop).unflatten(1, {Hkv, -1});  // [B, Hkv, G, D]
    const at::Tensor scores =
        at::einsum("bhgd,hdt->bhgt", {queries, keys}) / std::sqrt(static_cast<double>(q.size(2)));
    const at::Tensor is_near =
        key_index.unsqueeze(0) > key_index.slice(0, start, stop).unsqueeze(1) - window_keys;
    blocks.push_back(scores
                         .masked_fill(is_near.unsqueeze(1).unsqueeze(1),
                                      -std::numeric_limits<double>::infinity())
                         .logsumexp(-1)
                         .flatten(1));
  }
  return at::cat(blocks);
}

/// log Z_i of every token, [N, H].
at::Tensor log_recurrent_mass(const at::Tensor& q, const at::Tensor& k,
                              const JointAttentionParameters& maps, const Segments& segments,
                              int64_t window_keys) {
  const at::Tensor ones = at::ones({k.size(0), k.size(1), 1}, k.options());
  return gated_scan(joint_query_features(q, maps), joint_key_features(k, maps), ones,
                    joint_log_decay(maps.log_tau, at::kFloat).unsqueeze(0), segments, std::nullopt,
                    {.delay = window_keys})
      .out.squeeze(-1)
      .clamp_min(kLeastMass)
      .log();
}

}  // namespace

TigonCalibration calibrate_tigon(const MixerInput& input, const JointAttentionParameters& maps,
                                 int64_t window_keys) {
  const at::Tensor q = input.q.to(at::kFloat), k = input.k.to(at::kFloat);
  JointAttentionParameters centred = maps;
  if (maps.second_order) {
    const BalancedMaps balanced =
        balanced_maps(q, k, input.rotary, window_keys, /*numbers=*/maps.w_q.size(2));
    centred.w_q = balanced.w_q;
    centred.w_k = balanced.w_k;
  }
  centred.b_k = -at::einsum("hd,hde->he", {k.mean(0), centred.w_k});
  const Segments& segments = input.batch.segments;
  const at::Tensor log_z = log_recurrent_mass(q, k, centred, segments, window_keys);
  const auto rotate = [&](const at::Tensor& x) {
    return rope(x, input.batch.positions, input.rotary.inverse_frequencies, input.rotary.scale);
  };
  const at::Tensor rotated_q = rotate(q), rotated_k = rotate(k);
  at::Tensor sum = at::zeros({q.size(1)}, q.options().dtype(at::kDouble));
  int64_t count = 0, start = 0;
  for (const int64_t T : segments.lengths) {
    const int64_t first = std::min(2 * window_keys, (window_keys + T) / 2);
    if (T > window_keys) {
      const at::Tensor far = log_far_mass(rotated_q.narrow(0, start, T),
                                          rotated_k.narrow(0, start, T), first, window_keys);
      sum += (far - log_z.slice(0, start + first, start + T)).sum(0, false, at::kDouble);
      count += T - first;
    }
    start += T;
  }
  return {.w_q = centred.w_q,
          .w_k = centred.w_k,
          .b_k = centred.b_k,
          .b_mix = (sum / std::max<int64_t>(count, 1)).to(at::kFloat)};
}

}  // namespace tigon
