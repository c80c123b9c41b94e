// window_attention in bf16 and float16 with sinks and log-sum-exp, which have GPU kernels. On the
// CPU the same cases judge the plain definition.
#include "ops/window_attention_case.h"

namespace tigon::testing {
namespace {

const std::vector<std::string> kInputs = {"q", "k", "v"};

void check_case(const WindowCase& c, at::ScalarType type = at::kBFloat16) {
  INFO("queries " << at::IntArrayRef(c.lengths) << ", keys " << at::IntArrayRef(c.key_lengths)
                  << ", window " << c.options.window_keys << ", sinks " << c.options.sinks
                  << ", lse " << c.options.return_lse << ", heads " << c.H << " " << c.Hkv << ", D "
                  << c.D);
  auto x = random_inputs(c);
  for (at::Tensor& input : x) input = input.to(type).to(at::kDouble);
  const OpRun found = run_op(window_op(c), x, type);
  const OpRun plain = run_op(dense(c), x, type), exact = run_op(dense(c), x, at::kDouble);
  if (test_device().is_cuda()) {
    // The plain definition's name is BlockAttention.
    const std::string name = found.outputs[0].grad_fn()->name();
    INFO(name);
    CHECK(name.find("JointWindow") != std::string::npos);
  }
  check_low_precision("out", found.outputs[0], plain.outputs[0], exact.outputs[0]);
  if (c.options.return_lse) {
    CHECK(found.outputs[1].scalar_type() == at::kFloat);
    check_close("lse", found.outputs[1], exact.outputs[1], kBf16Product);
  }
  for (size_t i = 0; i < kInputs.size(); ++i) {
    check_low_precision("d" + kInputs[i], found.gradients[i], plain.gradients[i],
                        exact.gradients[i]);
  }
}

/// Segments that are their own keys.
WindowCase own_keys(const std::vector<int64_t>& lengths, int64_t window_keys, int64_t sinks,
                    bool lse, int64_t D, int64_t H = 4) {
  return {lengths, lengths, {window_keys, sinks, 0, lse}, H, H / 2, D};
}

TEST_CASE("window_attention in bf16 alone", "[window_attention]") {
  check_case(own_keys({1, 63, 64, 65, 200}, 16, 0, false, 64));
  check_case(own_keys({70, 30}, 0, 0, false, 256));                        // sees all
  check_case({{30, 1, 17}, {90, 40, 17}, {16, 0, 0.2, false}, 4, 1, 64});  // cached prefixes
}

TEST_CASE("window_attention in bf16 with its log-sum-exp", "[window_attention]") {
  check_case(own_keys({1, 63, 64, 65, 200}, 16, 0, true, 64));
  check_case(own_keys({1000}, 64, 0, true, 128));
  check_case(own_keys({70, 30}, 0, 0, true, 96));  // sees all
  check_case(own_keys({70, 30}, 16, 0, true, 64), at::kHalf);
  check_case({{30, 1, 17}, {90, 40, 17}, {16, 0, 0.2, true}, 4, 1, 64});  // cached prefixes
}

TEST_CASE("window_attention in bf16 with sinks", "[window_attention]") {
  for (const bool lse : {false, true}) {
    check_case(own_keys({1, 63, 64, 65, 200}, 16, 4, lse, 64));
    check_case(own_keys({300, 2}, 64, 1, lse, 128));
    check_case(own_keys({150}, 5, 16, lse, 72));
    check_case(own_keys({150, 40}, 16, 3, lse, 32), at::kHalf);
    check_case({{30, 1, 17}, {90, 40, 17}, {16, 5, 0.2, lse}, 4, 1, 64});
  }
  check_case({{200}, {200}, {16, 4, 0, true}, 8, 8, 64});
}

TEST_CASE("window_attention in bf16 differentiates the log-sum-exp alone", "[window_attention]") {
  for (const int64_t sinks : {0, 3}) {
    const WindowCase c = own_keys({70, 3}, 16, sinks, true, 64);
    const auto only_lse = [](const OpFunction& function) -> OpFunction {
      return [=](const std::vector<at::Tensor>& x) {
        return std::vector<at::Tensor>{function(x)[1] + 0 * x[2].sum()};  // v has no part in it
      };
    };
    auto x = random_inputs(c);
    for (at::Tensor& input : x) input = rounded_to_bf16(input);
    const OpRun found = run_op(only_lse(window_op(c)), x, at::kBFloat16);
    const OpRun plain = run_op(only_lse(dense(c)), x, at::kBFloat16);
    const OpRun exact = run_op(only_lse(dense(c)), x, at::kDouble);
    for (const size_t i : {0, 1}) {
      check_low_precision("d" + kInputs[i], found.gradients[i], plain.gradients[i],
                          exact.gradients[i]);
    }
    CHECK(found.gradients[2].abs().max().item<double>() < 1e-6);
  }
}

/// FlashAttention rounds heads of 8 up to 32, so that here the last segment begins behind 2³¹
/// numbers. Takes 15 GB; nothing is done on a CPU.
TEST_CASE("window_attention in bf16 beyond 32-bit offsets", "[window_attention]") {
  if (!test_device().is_cuda()) return;
  constexpr int64_t kLast = 65;
  const WindowCase last = own_keys({kLast}, 16, 0, false, 8, 8192);
  const WindowCase all = own_keys({8192, 300, kLast}, 16, 0, false, 8, 8192);
  const auto gradients = [](const WindowCase& c, const std::vector<at::Tensor>& x) {
    const at::Tensor out = window_op(c)(x)[0];
    at::Tensor upstream = at::zeros_like(out);
    upstream.slice(0, -kLast).fill_(1);
    return torch::autograd::grad({out}, x, {upstream});
  };
  std::vector<at::Tensor> alone, among;
  for (const at::Tensor& input : random_inputs(last)) {
    alone.push_back(input.to(at::kBFloat16).requires_grad_());
    const at::Tensor x = at::zeros({all.queries().total, input.size(1), 8}, alone.back().options());
    x.slice(0, -kLast).copy_(input);
    among.push_back(x.requires_grad_());
  }
  const auto found = gradients(all, among), expected = gradients(last, alone);
  for (size_t i = 0; i < kInputs.size(); ++i) {
    check_close("d" + kInputs[i], found[i].slice(0, -kLast), expected[i], kBf16Product);
  }
}

}  // namespace
}  // namespace tigon::testing
