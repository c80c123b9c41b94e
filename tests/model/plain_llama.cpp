#include "model/plain_llama.h"

#include <ATen/ATen.h>

#include <cmath>

namespace tigon::testing {
namespace {

at::ScalarType wide_type(at::ScalarType dtype) {
  return dtype == at::kDouble ? dtype : at::kFloat;
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(wide_type(x.scalar_type()));
  const at::Tensor scale = (wide.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
  return (wide * scale).to(x.scalar_type()) * weight.to(x.scalar_type());
}

/// x [T, H, D], rotated by the angles position · frequency; pairs are (i, i + D/2).
at::Tensor rotate(const at::Tensor& x, const at::Tensor& frequencies) {
  const at::ScalarType wide = wide_type(x.scalar_type());
  const at::Tensor steps = at::arange(x.size(0), frequencies.options()).to(wide);
  const at::Tensor angles = at::outer(steps, frequencies.to(wide)).unsqueeze(1);
  const std::vector<at::Tensor> halves = x.to(wide).chunk(2, -1);
  return at::cat({halves[0] * angles.cos() - halves[1] * angles.sin(),
                  halves[1] * angles.cos() + halves[0] * angles.sin()},
                 -1)
      .to(x.scalar_type());
}

/// q [T, H, D]; k, v [T, Hkv, D] → [T, H·D].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     int64_t window_keys) {
  const int64_t group = q.size(1) / k.size(1), length = q.size(0);
  const at::Tensor keys = k.repeat_interleave(group, 1), values = v.repeat_interleave(group, 1);
  at::Tensor scores = at::einsum("qhd,khd->hqk", {q, keys}) / std::sqrt(double(q.size(2)));
  const at::Tensor index = at::arange(length, q.options().dtype(at::kLong));
  const at::Tensor distance = index.unsqueeze(1) - index;
  at::Tensor hidden = distance < 0;
  if (window_keys > 0) hidden = hidden.logical_or(distance >= window_keys);
  scores = scores.masked_fill(hidden, -INFINITY).to(wide_type(q.scalar_type()));
  return at::einsum("hqk,khd->qhd", {scores.softmax(-1).to(q.scalar_type()), values}).flatten(1);
}

}  // namespace

at::Tensor plain_logits(const Model& model, const std::vector<int64_t>& tokens,
                        at::ScalarType dtype, int64_t window_keys) {
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model.config;
  const auto apply = [&](const Linear& linear, const at::Tensor& x) {
    return at::matmul(x, linear.weight.to(dtype).t());
  };
  const auto heads = [&](const at::Tensor& x) { return x.unflatten(1, {-1, config.head_dim}); };
  const at::Tensor& frequencies = model.rotary.inverse_frequencies;
  const at::Tensor ids = at::tensor(tokens, at::kLong).to(model.device);

  at::Tensor x = model.weights.embed_tokens.to(dtype).index_select(0, ids);
  for (const LayerWeights& layer : model.weights.layers) {
    const at::Tensor in = norm(x, layer.input_norm, config.rms_norm_eps);
    const at::Tensor q = rotate(heads(apply(layer.q_proj, in)), frequencies);
    const at::Tensor k = rotate(heads(apply(layer.k_proj, in)), frequencies);
    const at::Tensor v = heads(apply(layer.v_proj, in));
    x = x + apply(layer.o_proj, attention(q, k, v, window_keys));
    const at::Tensor mid = norm(x, layer.post_attention_norm, config.rms_norm_eps);
    const at::Tensor inner = at::silu(apply(layer.gate_proj, mid)) * apply(layer.up_proj, mid);
    x = x + apply(layer.down_proj, inner);
  }
  const at::Tensor last = norm(x, model.weights.norm, config.rms_norm_eps);
  return at::matmul(last, model.weights.lm_head.to(dtype).t());
}

}  // namespace tigon::testing
