#include "generate/sampling.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"

namespace tigon {
namespace {

/// One uniform number a sequence, drawn on the host and sent over in one copy: [S, 1] float64.
at::Tensor draw_uniforms(std::vector<Random>& randoms, at::Device device) {
  at::Tensor uniforms = at::empty({static_cast<int64_t>(randoms.size()), 1},
                                  at::TensorOptions(at::kDouble).pinned_memory(device.is_cuda()));
  double* const values = uniforms.data_ptr<double>();
  for (size_t i = 0; i < randoms.size(); ++i) values[i] = randoms[i].uniform();
  return uniforms.to(device, /*non_blocking=*/true);
}

/// Tokens that may be drawn, with their logits: all of them in the vocabulary's order, or the
/// likeliest first where a part of them is cut off.
struct Candidates {
  at::Tensor logits;  // [S, C]
  at::Tensor ids;     // [S, C]; undefined: the columns are the ids
};

Candidates choose_candidates(const at::Tensor& logits, const SamplingOptions& options) {
  const bool cuts_k = options.top_k > 0 && options.top_k < logits.size(1);
  if (!cuts_k && options.top_p >= 1) return {logits, {}};
  const auto [values, ids] = cuts_k ? logits.topk(options.top_k, /*dim=*/1)
                                    : logits.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  return {values, ids};
}

/// The probability that top_p leaves, [S, 1]: that of the shortest prefix of the sorted candidates
/// which holds at least top_p. cumulative [S, C].
at::Tensor kept_probability(const at::Tensor& cumulative, double top_p) {
  if (top_p >= 1) return cumulative.slice(1, -1);
  const at::Tensor last_kept =
      (cumulative < top_p).sum(1, /*keepdim=*/true).clamp_max(cumulative.size(1) - 1);
  return cumulative.gather(1, last_kept);
}

}  // namespace

void check_sampling_options(const SamplingOptions& options) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    throw UsageError(
        fmt::format("temperature: expected a number of at least 0, found {}", options.temperature));
  }
  if (options.top_k < 0) {
    throw UsageError(
        fmt::format("top_k: expected a count of tokens, or 0 for all, found {}", options.top_k));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw UsageError(
        fmt::format("top_p: expected a number above 0 and at most 1, found {}", options.top_p));
  }
}

at::Tensor sample(const at::Tensor& logits, const SamplingOptions& options,
                  std::vector<Random>& randoms) {
  TORCH_INTERNAL_ASSERT(logits.dim() == 2 &&
                        logits.size(0) == static_cast<int64_t>(randoms.size()));
  // A NaN is the maximum of its row.
  const auto [highest, likeliest] = logits.max(/*dim=*/1);
  if (options.temperature == 0) return likeliest.masked_fill(~highest.isfinite(), -1);
  const Candidates candidates = choose_candidates(logits, options);
  // In float64, so that the rarest tokens of a large vocabulary keep their share of the line.
  const at::Tensor cumulative =
      (candidates.logits.to(at::kDouble) / options.temperature).softmax(1).cumsum(1);
  const at::Tensor target =
      draw_uniforms(randoms, logits.device()) * kept_probability(cumulative, options.top_p);
  // The first candidate whose cumulative probability exceeds the target.
  at::Tensor drawn = at::searchsorted(cumulative, target, /*out_int32=*/false, /*right=*/true)
                         .clamp_max(cumulative.size(1) - 1);
  if (candidates.ids.defined()) drawn = candidates.ids.gather(1, drawn);
  return drawn.squeeze(1).masked_fill(~highest.isfinite(), -1);
}

}  // namespace tigon
