// liger_attention in bf16 with the head sizes that have GPU kernels. On the CPU the same cases
// judge the plain definition.
#include <ATen/ATen.h>

#include "ops/liger_attention/liger_attention.h"
#include "ops/op_run.h"
#include "ops/rope/rope.h"
#include "ops/rope_inputs.h"
#include "ops/window_attention/window_attention.h"

namespace tigon::testing {
namespace {

const std::vector<std::string> kInputs = {"q", "k", "v", "initial_state"};
const std::vector<std::string> kOutputs = {"out", "state"};

struct Case {
  std::vector<int64_t> lengths;
  int64_t heads, kv_heads, head_dim;
  LigerAttentionOptions options = {};
  double key_shift = 0, key_scale = 1;
};

Segments segments_of(const Case& c) {
  return Segments::from_lengths(c.lengths, test_device());
}

/// bf16 values in float64; the state is float32 wherever the op runs in bf16.
std::vector<at::Tensor> inputs_of(const Case& c) {
  const Segments segments = segments_of(c);
  const int64_t N = segments.total, S = segments.count(), D = c.head_dim;
  const auto draw = [](at::IntArrayRef shape, uint64_t seed) {
    return rounded_to_bf16(random_tensor(shape, seed, at::kDouble));
  };
  return {draw({N, c.heads, D}, 1),
          rounded_to_bf16(draw({N, c.kv_heads, D}, 2) * c.key_scale + c.key_shift),
          draw({N, c.kv_heads, D}, 3), draw({S, c.kv_heads, D, D}, 4)};
}

OpFunction op(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const Segments segments = segments_of(c);
    const at::ScalarType wide = x[3].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const auto [out, state] =
        liger_attention(x[0], x[1], x[2], positions(segments), inverse_frequencies(c.head_dim),
                        segments, segments, c.options, x[3].to(wide));
    return {out, state};
  };
}

/// The op's parts, none of which is a liger_attention kernel.
OpFunction by_parts(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const Segments segments = segments_of(c);
    const at::Tensor at = positions(segments), frequencies = inverse_frequencies(c.head_dim);
    const at::Tensor near =
        window_attention(rope(x[0], at, frequencies, c.options.rope_scale),
                         rope(x[1], at, frequencies, c.options.rope_scale), x[2], segments,
                         segments, {c.options.window_keys, 0, 0, false})
            .out;
    const auto far = liger_recurrence(x[0], x[1], x[2], segments, c.options.gate_normalizer, x[3]);
    return {at::lerp(near, far.out, c.options.mix), far.state};
  };
}

void check_bf16(const Case& c) {
  const auto inputs = inputs_of(c);
  const OpRun found = run_op(op(c), inputs, at::kBFloat16);
  const OpRun plain = run_op(by_parts(c), inputs, at::kBFloat16);
  const OpRun reference = run_op(by_parts(c), inputs, at::kDouble);
  check_low_precision("out", found.outputs[0], plain.outputs[0], reference.outputs[0]);
  // A float32 sum of products of bf16 numbers.
  CHECK(found.outputs[1].scalar_type() == at::kFloat);
  check_close("state", found.outputs[1], reference.outputs[1], kBf16Product);
  for (size_t i = 0; i < kInputs.size(); ++i) {
    check_low_precision("d" + kInputs[i], found.gradients[i], plain.gradients[i],
                        reference.gradients[i]);
  }
}

LigerAttentionOptions with(int64_t window_keys, double gate_normalizer = 16, double mix = 0.5) {
  return {.window_keys = window_keys, .gate_normalizer = gate_normalizer, .mix = mix};
}

TEST_CASE("liger_attention in bf16, heads of 64, 96 and 128, odd lengths", "[liger_attention]") {
  check_bf16({{1, 63, 64, 65, 1}, 4, 2, 64});
  check_bf16({{130, 3}, 3, 3, 96});
  check_bf16({{65, 1, 127}, 6, 2, 128});
  check_bf16({{200}, 7, 1, 64});
  check_bf16({{130, 1, 40}, 8, 2, 64});  // tiles of a short chunk, over several heads of a group
}

TEST_CASE("liger_attention in bf16 with other windows, mixes and gates", "[liger_attention]") {
  check_bf16({{90, 70}, 4, 2, 64, with(1)});
  check_bf16({{90, 70}, 4, 2, 64, with(17)});
  check_bf16({{90, 70}, 4, 2, 64, with(65)});
  check_bf16({{90, 70}, 4, 2, 64, with(100)});
  check_bf16({{90, 70}, 2, 1, 128, with(64, 16, 0)});
  check_bf16({{90, 70}, 2, 1, 128, with(64, 16, 1)});
  check_bf16({{90, 70}, 4, 2, 64, with(64, 1)});
}

TEST_CASE("liger_attention in bf16 with gates near 1 and near 0", "[liger_attention]") {
  // log-gates about 0, −2.5, and −100.
  for (const double key_shift : {40.0, -40.0, -1600.0}) {
    check_bf16({{90, 70}, 2, 1, 64, {}, key_shift});
  }
  check_bf16({{90, 70}, 2, 1, 64, with(64, 0.05), 0, 5});  // from 0 to −300, side by side
}

TEST_CASE("liger_attention in bf16 gives the same bits every time", "[liger_attention]") {
  const Case c{{100, 65, 30}, 4, 2, 64};
  const OpRun first = run_op(op(c), inputs_of(c), at::kBFloat16);
  const OpRun second = run_op(op(c), inputs_of(c), at::kBFloat16);
  for (size_t i = 0; i < kOutputs.size(); ++i) {
    check_bitwise(kOutputs[i], second.outputs[i], first.outputs[i]);
  }
  for (size_t i = 0; i < kInputs.size(); ++i) {
    check_bitwise("d" + kInputs[i], second.gradients[i], first.gradients[i]);
  }
}

TEST_CASE("a packed document gives the same bits wherever it lies", "[liger_attention][packed]") {
  const Case packed{{33, 150, 70}, 4, 2, 64}, alone{{150}, 4, 2, 64};
  const auto all = inputs_of(packed);
  const std::vector<at::Tensor> own = {all[0].slice(0, 33, 183), all[1].slice(0, 33, 183),
                                       all[2].slice(0, 33, 183), all[3].slice(0, 1, 2)};
  const auto run = [](const Case& c, const std::vector<at::Tensor>& inputs, int64_t first) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.to(at::kBFloat16).clone().requires_grad_());
    }
    std::vector<at::Tensor> results = {op(c)(leaves)[0]};
    const at::Tensor upstream =
        random_tensor({253, c.heads, c.head_dim}, 9).to(at::kBFloat16).slice(0, 33 - first);
    const auto gradients =
        torch::autograd::grad({results[0]}, {leaves[0], leaves[1], leaves[2]},
                              {upstream.slice(0, 0, results[0].size(0)).contiguous()});
    results.insert(results.end(), gradients.begin(), gradients.end());
    for (at::Tensor& result : results) result = result.slice(0, first, first + 150).contiguous();
    return results;
  };
  const auto inside = run(packed, all, 33), outside = run(alone, own, 0);
  for (size_t i = 0; i < inside.size(); ++i) {
    const std::string name = i == 0 ? "out" : "d" + kInputs[i - 1];
    if (test_device().is_cpu()) {  // whose products are cut by the size of the batch
      check_close(name, inside[i], outside[i], kBf16Product);
    } else {
      check_bitwise(name, inside[i], outside[i]);
    }
  }
}

TEST_CASE("liger_attention in bf16 reads views of one projection", "[liger_attention]") {
  const Case c{{100, 30}, 4, 2, 64};
  const auto inputs = inputs_of(c);
  std::vector<at::Tensor> x;
  for (const at::Tensor& input : inputs) x.push_back(input.to(at::kBFloat16));
  const at::Tensor packed = at::cat({x[0].flatten(1), x[1].flatten(1), x[2].flatten(1)}, 1);
  const auto part = [&](int64_t first, int64_t heads) {
    return packed.narrow(1, first * 64, heads * 64).view({130, heads, 64});
  };
  check_bitwise("out", op(c)({part(0, 4), part(4, 2), part(6, 2), x[3]})[0], op(c)(x)[0]);
}

}  // namespace
}  // namespace tigon::testing
