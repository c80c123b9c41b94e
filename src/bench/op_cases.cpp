#include "bench/op_cases.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/rotary.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/head_norm/head_norm.h"
#include "ops/joint_attention/joint_attention.h"
#include "ops/liger_attention/liger_attention.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "ops/lora_linear/lora_linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"
#include "ops/window_attention/window_attention.h"

namespace tigon {
namespace {

using Inputs = std::vector<OpInput>;
using Tensors = std::vector<at::Tensor>;
using Options = at::TensorOptions;

constexpr double kEps = 1e-5;
constexpr double kGateNormalizer = 16;
constexpr double kLoraScale = 1;
constexpr double kDecayTime = 512;  // tokens
constexpr int64_t kSinks = 4;

/// A matrix [outputs, inputs] that keeps the scale of what it is multiplied with.
at::Tensor random_matrix(int64_t outputs, int64_t inputs, const Options& options) {
  return at::randn({outputs, inputs}, options).div_(std::sqrt(static_cast<double>(inputs)));
}

at::Tensor inverse_frequencies(const OpSizes& sizes, const Options& options) {
  return make_rotary({}, sizes.head_dim, options.device()).inverse_frequencies;
}

Inputs queries_keys_values(const OpSizes& sizes, const Batch&, const Options& options) {
  const int64_t N = sizes.tokens(), D = sizes.head_dim;
  return {{"q", at::randn({N, sizes.heads, D}, options)},
          {"k", at::randn({N, sizes.kv_heads, D}, options)},
          {"v", at::randn({N, sizes.kv_heads, D}, options)}};
}

Tensors call_window_attention(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return {window_attention(x[0], x[1], x[2], batch.segments, batch.segments,
                           {.window_keys = sizes.window_keys})
              .out};
}

Tensors call_window_attention_sinks(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return {window_attention(x[0], x[1], x[2], batch.segments, batch.segments,
                           {.window_keys = sizes.window_keys, .sinks = kSinks})
              .out};
}

Tensors call_flash_window(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  const Segments& segments = batch.segments;
  return {std::get<0>(at::_flash_attention_forward(
      x[0], x[1], x[2], segments.cu_seqlens, segments.cu_seqlens, segments.longest,
      segments.longest, /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false,
      /*scale=*/std::nullopt, /*window_size_left=*/sizes.window_keys - 1,
      /*window_size_right=*/0))};
}

// φ(q), φ(k) and the gates as Liger-GLA makes them.
Inputs gated_scan_inputs(const OpSizes& sizes, const Batch& batch, const Options& options) {
  Inputs inputs = queries_keys_values(sizes, batch, options);
  const at::Tensor gates = at::log_sigmoid(inputs[1].value.to(at::kFloat)).div_(kGateNormalizer);
  for (size_t i : {0, 1}) inputs[i].value = inputs[i].value.softmax(-1);
  inputs.push_back({"log_gate", gates});
  return inputs;
}

Tensors call_gated_scan(const OpSizes&, const Batch& batch, const Tensors& x) {
  return {gated_scan(x[0], x[1], x[2], x[3], batch.segments).out};
}

Tensors call_gated_scan_delayed(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return {
      gated_scan(x[0], x[1], x[2], x[3], batch.segments, std::nullopt, {.delay = sizes.window_keys})
          .out};
}

Inputs liger_attention_inputs(const OpSizes& sizes, const Batch& batch, const Options& options) {
  Inputs inputs = queries_keys_values(sizes, batch, options);
  inputs.push_back({"inverse_frequencies", inverse_frequencies(sizes, options), InputKind::kFixed});
  return inputs;
}

Tensors call_liger_attention(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return {liger_attention(x[0], x[1], x[2], batch.positions, x[3], batch.segments, batch.segments,
                          {.window_keys = sizes.window_keys, .gate_normalizer = kGateNormalizer})
              .out};
}

/// With maps to `numbers` numbers and features of so many channels; `size` of what is mapped.
Inputs joint_inputs(const OpSizes& sizes, const Batch& batch, const Options& options,
                    int64_t numbers, int64_t channels, double size) {
  const int64_t N = sizes.tokens(), H = sizes.heads, Hkv = sizes.kv_heads, D = sizes.head_dim;
  const Options wide = options.dtype(at::kFloat);
  const auto maps = [&](int64_t heads) {
    return (random_matrix(heads * numbers, D, wide) * size)
        .view({-1, numbers, D})
        .mT()
        .contiguous();
  };
  const auto biases = [&](int64_t heads) { return at::randn({heads, numbers}, wide) * size; };
  Inputs inputs = liger_attention_inputs(sizes, batch, options);
  inputs.push_back({"w_q", maps(H)});
  inputs.push_back({"b_q", biases(H)});
  inputs.push_back({"w_k", maps(Hkv)});
  inputs.push_back({"b_k", biases(Hkv)});
  inputs.push_back({"log_tau", at::full({Hkv, channels}, std::log(kDecayTime), wide)});
  inputs.push_back({"log_importance", at::randn({N, Hkv}, wide)});
  inputs.push_back({"log_mix", at::randn({N, H}, wide)});
  return inputs;
}

Tensors call_joint(const OpSizes& sizes, const Batch& batch, const Tensors& x, bool second_order) {
  const JointAttentionInputs inputs{.q = x[0],
                                    .k = x[1],
                                    .v = x[2],
                                    .key_positions = batch.positions,
                                    .inverse_frequencies = x[3],
                                    .log_importance = x[9],
                                    .log_mix = x[10]};
  return {joint_attention(inputs, {x[4], x[5], x[6], x[7], x[8], second_order}, batch.segments,
                          batch.segments, {.window_keys = sizes.window_keys})
              .out};
}

Inputs joint_attention_inputs(const OpSizes& sizes, const Batch& batch, const Options& options) {
  return joint_inputs(sizes, batch, options, sizes.head_dim, 2 * sizes.head_dim, 1);
}

Tensors call_joint_attention(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return call_joint(sizes, batch, x, /*second_order=*/false);
}

/// Of second order x·y is about 1, as calibrated maps make it.
Inputs joint_second_order_inputs(const OpSizes& sizes, const Batch& batch, const Options& options) {
  const int64_t R = sizes.second_order_numbers;
  return joint_inputs(sizes, batch, options, R, joint_feature_channels(R, true), 0.35);
}

Tensors call_joint_second_order(const OpSizes& sizes, const Batch& batch, const Tensors& x) {
  return call_joint(sizes, batch, x, /*second_order=*/true);
}

Inputs head_norm_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return {{"x", at::randn({sizes.tokens(), sizes.heads, sizes.head_dim}, options)}};
}

Tensors call_head_norm(const OpSizes&, const Batch&, const Tensors& x) {
  return {head_norm(x[0], kEps)};
}

Inputs rms_norm_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return {{"x", at::randn({sizes.tokens(), sizes.hidden()}, options)},
          {"weight", at::randn({sizes.hidden()}, options), InputKind::kFrozen}};
}

Tensors call_rms_norm(const OpSizes&, const Batch&, const Tensors& x) {
  return {rms_norm(x[0], x[1], kEps)};
}

Inputs add_rms_norm_inputs(const OpSizes& sizes, const Batch& batch, const Options& options) {
  Inputs inputs = rms_norm_inputs(sizes, batch, options);
  inputs.push_back({"residual", at::randn({sizes.tokens(), sizes.hidden()}, options)});
  return inputs;
}

Tensors call_add_rms_norm(const OpSizes&, const Batch&, const Tensors& x) {
  const AddRmsNormResult result = add_rms_norm(x[0], x[2], x[1], kEps);
  return {result.sum, result.normed};
}

Inputs rope_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return {{"x", at::randn({sizes.tokens(), sizes.heads, sizes.head_dim}, options)},
          {"inverse_frequencies", inverse_frequencies(sizes, options), InputKind::kFixed}};
}

Tensors call_rope(const OpSizes&, const Batch& batch, const Tensors& x) {
  return {rope(x[0], batch.positions, x[1])};
}

Inputs swiglu_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return {{"gate", at::randn({sizes.tokens(), sizes.intermediate()}, options)},
          {"up", at::randn({sizes.tokens(), sizes.intermediate()}, options)}};
}

Tensors call_swiglu(const OpSizes&, const Batch&, const Tensors& x) {
  return {swiglu(x[0], x[1])};
}

Inputs swiglu_packed_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return {{"gate_up", at::randn({sizes.tokens(), 2 * sizes.intermediate()}, options)}};
}

Tensors call_swiglu_packed(const OpSizes&, const Batch&, const Tensors& x) {
  return {swiglu_packed(x[0])};
}

/// x, the frozen weight of layers with these outputs side by side, then all A's and all B's.
Inputs adapted_inputs(const OpSizes& sizes, const std::vector<int64_t>& outputs,
                      const Options& options) {
  const int64_t I = sizes.hidden(), R = sizes.lora_rank;
  const Options wide = options.dtype(at::kFloat);
  int64_t O = 0;
  for (const int64_t rows : outputs) O += rows;
  Inputs inputs = {{"x", at::randn({sizes.tokens(), I}, options)},
                   {"weight", random_matrix(O, I, options), InputKind::kFrozen}};
  for (size_t i = 0; i < outputs.size(); ++i) {
    inputs.push_back({fmt::format("lora_a[{}]", i), random_matrix(R, I, wide)});
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    inputs.push_back({fmt::format("lora_b[{}]", i), random_matrix(outputs[i], R, wide)});
  }
  return inputs;
}

Inputs lora_linear_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  return adapted_inputs(sizes, {sizes.hidden()}, options);
}

Tensors call_lora_linear(const OpSizes&, const Batch&, const Tensors& x) {
  return {lora_linear(x[0], x[1], std::nullopt, x[2], x[3], kLoraScale)};
}

Inputs lora_linear_packed_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  const int64_t keys = sizes.kv_heads * sizes.head_dim;
  return adapted_inputs(sizes, {sizes.hidden(), keys, keys}, options);
}

Tensors call_lora_linear_packed(const OpSizes&, const Batch&, const Tensors& x) {
  return {lora_linear_packed(x[0], x[1], std::nullopt, Tensors{x[2], x[3], x[4]},
                             Tensors{x[5], x[6], x[7]}, kLoraScale)};
}

Inputs linear_cross_entropy_inputs(const OpSizes& sizes, const Batch&, const Options& options) {
  const int64_t N = sizes.tokens(), M = sizes.hidden(), V = sizes.vocabulary;
  return {{"hidden", at::randn({N, M}, options)},
          {"head", random_matrix(V, M, options), InputKind::kFrozen},
          {"targets", at::randint(V, {N}, options.dtype(at::kLong)), InputKind::kFixed}};
}

Tensors call_linear_cross_entropy(const OpSizes&, const Batch&, const Tensors& x) {
  return {linear_cross_entropy(x[0], x[1], x[2]).loss};
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = {
      {"liger_attention",
       liger_attention_inputs,
       call_liger_attention,
       liger_attention_work,
       {"tigon::window_attention"}},
      {"gated_scan", gated_scan_inputs, call_gated_scan, gated_scan_work, {"aten::matmul"}},
      {"gated_scan_delayed",
       gated_scan_inputs,
       call_gated_scan_delayed,
       gated_scan_work,
       {"aten::matmul"},
       "gated_scan"},
      {"window_attention",
       queries_keys_values,
       call_window_attention,
       window_attention_work,
       {"aten::softmax", "aten::scaled_dot_product_attention"}},
      {"window_attention_sinks",
       queries_keys_values,
       call_window_attention_sinks,
       window_attention_work,
       {"aten::softmax", "aten::scaled_dot_product_attention"},
       "window_attention"},
      {"joint_attention",
       joint_attention_inputs,
       call_joint_attention,
       joint_attention_work,
       {"tigon::window_attention"}},
      {"joint_attention_second_order",
       joint_second_order_inputs,
       call_joint_second_order,
       joint_second_order_work,
       {"tigon::window_attention"},
       "joint_attention"},
      {"head_norm", head_norm_inputs, call_head_norm, head_norm_work, {"aten::rsqrt"}},
      {"rms_norm", rms_norm_inputs, call_rms_norm, rms_norm_work, {"aten::rsqrt"}},
      {"add_rms_norm",
       add_rms_norm_inputs,
       call_add_rms_norm,
       add_rms_norm_work,
       {"aten::rsqrt"},
       "rms_norm"},
      {"rope", rope_inputs, call_rope, rope_work, {"aten::cos"}},
      {"swiglu", swiglu_inputs, call_swiglu, swiglu_work, {"aten::silu"}},
      {"swiglu_packed",
       swiglu_packed_inputs,
       call_swiglu_packed,
       swiglu_work,
       {"aten::silu"},
       "swiglu"},
      {"linear_cross_entropy",
       linear_cross_entropy_inputs,
       call_linear_cross_entropy,
       linear_cross_entropy_work,
       {"aten::gather"}},
      {"lora_linear", lora_linear_inputs, call_lora_linear, lora_linear_work, {"aten::mm"}},
      {"lora_linear_packed",
       lora_linear_packed_inputs,
       call_lora_linear_packed,
       lora_linear_packed_work,
       {"aten::mm"},
       "lora_linear"},
  };
  return cases;
}

const OpCase& find_op_case(const std::string& name) {
  const auto found = std::ranges::find(op_cases(), name, &OpCase::name);
  if (found != op_cases().end()) return *found;
  std::vector<std::string> names;
  for (const OpCase& op : op_cases()) names.push_back(op.name);
  throw UsageError(fmt::format("bench ops: expected names of ops ({}), found '{}'",
                               fmt::join(names, ", "), name));
}

const OpCase& flash_window_case() {
  static const OpCase flash = {"window alone, FlashAttention",
                               queries_keys_values,
                               call_flash_window,
                               window_attention_work,
                               {}};
  return flash;
}

}  // namespace tigon
