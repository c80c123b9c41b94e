#include "ops/lora_linear/lora_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/op_run.h"
#include "support/allocations.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr double kScale = 0.75;

struct Inputs {
  at::Tensor x, weight, bias, lora_a, lora_b, mask;

  at::Tensor found() const { return lora_linear(x, weight, bias, lora_a, lora_b, kScale, mask); }
  // Plain ops in the dtype of x.
  at::Tensor expected() const {
    const at::ScalarType type = x.scalar_type();
    return at::linear(x, weight.to(type), bias.to(type)) +
           at::linear(at::linear(x * mask.to(type), lora_a.to(type)), lora_b.to(type)) * kScale;
  }
  std::vector<std::pair<std::string, at::Tensor>> differentiable() const {
    return {{"x", x}, {"weight", weight}, {"bias", bias}, {"lora_a", lora_a}, {"lora_b", lora_b}};
  }
};

// A dropout mask with a quarter dropped, the rest divided by the kept share.
at::Tensor dropout_mask(int64_t N, int64_t I, at::ScalarType type) {
  return (random_tensor({N, I}, 99) > -0.6745).to(type) / 0.75;
}

Inputs make_inputs(int64_t N, int64_t I, int64_t O, int64_t R, at::ScalarType type) {
  return {random_tensor({N, I}, 1, type), random_tensor({O, I}, 2, type),
          random_tensor({O}, 3, type),    random_tensor({R, I}, 4, type),
          random_tensor({O, R}, 5, type), dropout_mask(N, I, type)};
}

}  // namespace

TEST_CASE("lora_linear is a linear layer plus a scaled low-rank one", "[lora_linear]") {
  for (const int64_t N : {0, 1, 63, 65}) {
    for (const int64_t R : {1, 8}) {
      const Inputs wide = make_inputs(N, 17, 33, R, at::kDouble);
      check_close("float64", wide.found(), wide.expected(), kExactMath);
      const Inputs narrow = make_inputs(N, 17, 33, R, at::kFloat);
      check_close("float32", narrow.found(), wide.expected(), kFloat32Op);
      check_close("no bias, no dropout",
                  lora_linear(wide.x, wide.weight, {}, wide.lora_a, wide.lora_b, kScale),
                  at::mm(wide.x, (wide.weight + kScale * at::mm(wide.lora_b, wide.lora_a)).t()),
                  kExactMath);
    }
  }
}

TEST_CASE("lora_linear gradients", "[lora_linear]") {
  for (const int64_t N : {1, 63, 65}) {
    const Inputs in = make_inputs(N, 7, 5, 3, at::kDouble);
    check_gradients(
        [&](const std::vector<at::Tensor>& v) {
          return std::vector<at::Tensor>{
              lora_linear(v[0], v[1], v[2], v[3], v[4], kScale, in.mask)};
        },
        in.differentiable());
    check_gradients(
        [&](const std::vector<at::Tensor>& v) {
          return std::vector<at::Tensor>{lora_linear(v[0], v[1], {}, v[2], v[3], kScale)};
        },
        {{"x", in.x}, {"weight", in.weight}, {"lora_a", in.lora_a}, {"lora_b", in.lora_b}});
  }
}

TEST_CASE("lora_linear gives gradients to exactly the inputs that ask", "[lora_linear]") {
  // Every subset of x, weight, bias, lora_a, lora_b.
  for (int subset = 1; subset < 32; ++subset) {
    Inputs in = make_inputs(9, 7, 5, 3, at::kDouble), plain = make_inputs(9, 7, 5, 3, at::kDouble);
    const auto found = in.differentiable(), expected = plain.differentiable();
    for (int i = 0; i < 5; ++i) {
      found[i].second.requires_grad_((subset >> i & 1) != 0);
      expected[i].second.requires_grad_((subset >> i & 1) != 0);
    }
    const at::Tensor dout = random_tensor({9, 5}, 6, at::kDouble);
    in.found().backward(dout);
    plain.expected().backward(dout);
    for (int i = 0; i < 5; ++i) {
      INFO("subset " << subset << ", " << found[i].first);
      REQUIRE(found[i].second.grad().defined() == ((subset >> i & 1) != 0));
      if (found[i].second.grad().defined()) {
        check_close(found[i].first, found[i].second.grad(), expected[i].second.grad(), kExactMath);
      }
    }
  }
}

TEST_CASE("lora_linear with a frozen weight keeps no activation and makes no weight gradient",
          "[lora_linear]") {
  const int64_t N = 64, I = 128, O = 256, R = 4, kFloat = sizeof(float);
  // Allocators round up.
  const auto close_to = [](int64_t bytes, int64_t expected) {
    return bytes >= expected && bytes <= expected + 4096;
  };
  Inputs in = make_inputs(N, I, O, R, at::kFloat);
  in.x.requires_grad_(true);
  in.lora_a.requires_grad_(true);
  in.lora_b.requires_grad_(true);
  const at::Tensor dout = random_tensor({N, O}, 7);
  // Once before: what the matrix library allocates on its first call is not the op's.
  in.found().backward(dout);
  for (const at::Tensor& leaf : {in.x, in.lora_a, in.lora_b}) leaf.mutable_grad() = at::Tensor();
  const AllocationRecorder recorder;
  at::Tensor out = in.found();
  // Alive: the result and (x · mask) Aᵀ; not x · mask, and no product of the adapter's own.
  CHECK(close_to(recorder.alive(), (N * O + N * R) * kFloat));
  out.backward(dout);
  CHECK(recorder.largest() < O * I * kFloat);  // no [O, I] tensor was ever made
  CHECK(!in.weight.grad().defined());
  CHECK(!in.bias.grad().defined());
  out = at::Tensor();
  CHECK(close_to(recorder.alive(), (N * I + R * I + O * R) * kFloat));  // the three gradients
}

TEST_CASE("lora_linear takes non-contiguous input", "[lora_linear]") {
  Inputs in = {random_tensor({17, 63}, 1).t(),         random_tensor({17, 33}, 2).t(),
               random_tensor({33, 2}, 3).select(1, 0), random_tensor({17, 4}, 4).t(),
               random_tensor({4, 33}, 5).t(),          dropout_mask(17, 63, at::kFloat).t()};
  Inputs copy = {in.x.contiguous(),      in.weight.contiguous(), in.bias.contiguous(),
                 in.lora_a.contiguous(), in.lora_b.contiguous(), in.mask.contiguous()};
  const at::Tensor dout = random_tensor({33, 63}, 6).t();
  std::vector<at::Tensor> leaves, copies;
  for (const auto& [name, tensor] : in.differentiable()) leaves.push_back(tensor.requires_grad_());
  for (const auto& [name, tensor] : copy.differentiable())
    copies.push_back(tensor.requires_grad_());
  const at::Tensor found = in.found(), expected = copy.expected();
  check_close("out", found, expected, kFloat32Op);
  const auto gradients = torch::autograd::grad({found}, leaves, {dout});
  const auto plain = torch::autograd::grad({expected}, copies, {dout.contiguous()});
  for (size_t i = 0; i < gradients.size(); ++i) {
    check_close("gradient of " + in.differentiable()[i].first, gradients[i], plain[i], kFloat32Op);
  }
}

TEST_CASE("lora_linear in bfloat16 with float32 adapters", "[lora_linear]") {
  Inputs reference = make_inputs(65, 127, 63, 8, at::kDouble);
  const auto narrow = [&] {
    Inputs in = make_inputs(65, 127, 63, 8, at::kBFloat16);
    in.lora_a = in.lora_a.to(at::kFloat);
    in.lora_b = in.lora_b.to(at::kFloat);
    return in;
  };
  Inputs in = narrow(), plain = narrow();
  reference = {in.x.to(at::kDouble),      in.weight.to(at::kDouble), in.bias.to(at::kDouble),
               in.lora_a.to(at::kDouble), in.lora_b.to(at::kDouble), in.mask.to(at::kDouble)};
  for (const Inputs* each : {&in, &plain, &reference}) {
    for (const auto& [name, tensor] : each->differentiable()) tensor.requires_grad_(true);
  }
  const at::Tensor dout = random_tensor({65, 63}, 6, at::kBFloat16);
  const at::Tensor found = in.found(), same = plain.expected(), wide = reference.expected();
  check_low_precision("out", found, same, wide);
  found.backward(dout);
  same.backward(dout);
  wide.backward(dout.to(at::kDouble));
  for (size_t i = 0; i < 5; ++i) {
    const auto [name, tensor] = in.differentiable()[i];
    const at::Tensor gradient = tensor.grad();
    CHECK(gradient.scalar_type() == tensor.scalar_type());
    check_low_precision("gradient of " + name, gradient.to(at::kBFloat16),
                        plain.differentiable()[i].second.grad().to(at::kBFloat16),
                        reference.differentiable()[i].second.grad());
  }
}

TEST_CASE("lora_linear_packed is its layers one by one", "[lora_linear]") {
  // Three layers of 6, 4 and 5 outputs and ranks 2, 3 and 1.
  const std::vector<std::string> names = {"x",   "weight", "bias", "a_0", "a_1",
                                          "a_2", "b_0",    "b_1",  "b_2"};
  for (const int64_t N : {1, 63, 65}) {
    const at::Tensor mask = dropout_mask(N, 17, at::kDouble);
    const std::vector<at::Tensor> inputs = {
        random_tensor({N, 17}, 1, at::kDouble), random_tensor({15, 17}, 2, at::kDouble),
        random_tensor({15}, 3, at::kDouble),    random_tensor({2, 17}, 4, at::kDouble),
        random_tensor({3, 17}, 5, at::kDouble), random_tensor({1, 17}, 6, at::kDouble),
        random_tensor({6, 2}, 7, at::kDouble),  random_tensor({4, 3}, 8, at::kDouble),
        random_tensor({5, 1}, 9, at::kDouble)};
    const OpFunction packed = [&](const std::vector<at::Tensor>& in) {
      return lora_linear_packed(in[0], in[1], in[2], {in[3], in[4], in[5]}, {in[6], in[7], in[8]},
                                kScale, mask.to(in[0].scalar_type()))
          .split_with_sizes({6, 4, 5}, 1);
    };
    const OpFunction one_by_one = [&](const std::vector<at::Tensor>& in) {
      const at::Tensor own_mask = mask.to(in[0].scalar_type());
      std::vector<at::Tensor> outs;
      int64_t first = 0;
      for (size_t p = 0; p < 3; ++p) {
        const int64_t count = in[6 + p].size(0);
        outs.push_back(
            at::linear(in[0], in[1].narrow(0, first, count), in[2].narrow(0, first, count)) +
            at::linear(at::linear(in[0] * own_mask, in[3 + p]), in[6 + p]) * kScale);
        first += count;
      }
      return outs;
    };
    const OpRun reference = run_op(one_by_one, inputs, at::kDouble);
    const std::vector<std::string> outputs = {"out_0", "out_1", "out_2"};
    check_runs(run_op(packed, inputs, at::kDouble), reference, outputs, names, kExactMath);
    check_runs(run_op(packed, inputs, at::kFloat), reference, outputs, names, kFloat32Op);
    check_low_precision_runs(packed, one_by_one, inputs, outputs, names);
    check_frozen_inputs(packed, inputs, names);
  }
}

TEST_CASE("lora_linear_packed refuses wrong input", "[lora_linear]") {
  const at::Tensor x = random_tensor({3, 4}, 1), weight = random_tensor({7, 4}, 2);
  const at::Tensor a = random_tensor({2, 4}, 3), b = random_tensor({5, 2}, 4);
  const auto refused = [&](at::TensorList lora_a, at::TensorList lora_b, const std::string& text) {
    check_refused([&] { lora_linear_packed(x, weight, {}, lora_a, lora_b, 1); },
                  "[lora_linear_packed] " + text);
  };
  refused({}, {}, "lora_a: expected at least one matrix, found none");
  refused({a, a}, {b}, "lora_b: expected 2 matrices, one for each of lora_a, found 1");
  refused({a, a}, {b, b}, "weight: expected 10 rows, as many as lora_b has together, found 7");
  refused({a, x}, {b, b}, "lora_b[1]: expected shape [any, 3], found [5, 2]");
  refused({b, a}, {b, b}, "lora_a[0]: expected shape [any, 4], found [5, 2]");
  refused({a, a.to(at::kDouble)}, {b, b}, "lora_a[1]: expected dtype Float, found Double");
  refused({a, a}, {b, b.to(at::kDouble)}, "lora_b[1]: expected dtype Float, found Double");
  refused({a, a.to(at::kMeta)}, {b, b},
          "lora_a[1]: expected device " + x.device().str() + ", found meta");
  refused({a, a}, {b, b.to(at::kMeta)},
          "lora_b[1]: expected device " + x.device().str() + ", found meta");
}

TEST_CASE("lora_linear refuses wrong input", "[lora_linear]") {
  const Inputs in = make_inputs(3, 4, 5, 2, at::kFloat);
  const auto refused = [](const Inputs& wrong, const std::string& text) {
    check_refused([&] { wrong.found(); }, "[lora_linear] " + text);
  };
  const auto with = [&](at::Tensor Inputs::*member, const at::Tensor& value) {
    Inputs wrong = in;
    wrong.*member = value;
    return wrong;
  };
  const auto random = [](at::IntArrayRef shape) { return random_tensor(shape, 1); };
  refused(with(&Inputs::x, in.x.to(at::kInt)), "x: expected a floating-point dtype, found Int");
  refused(with(&Inputs::x, in.x[0]), "x: expected shape [any, any], found [4]");
  refused(with(&Inputs::weight, random({5, 3})), "weight: expected shape [any, 4], found [5, 3]");
  refused(with(&Inputs::weight, in.weight.to(at::kInt)),
          "weight: expected a floating-point dtype, found Int");
  refused(with(&Inputs::bias, random({4})), "bias: expected shape [5], found [4]");
  refused(with(&Inputs::bias, in.bias.to(at::kInt)),
          "bias: expected a floating-point dtype, found Int");
  refused(with(&Inputs::lora_a, random({2, 5})), "lora_a: expected shape [any, 4], found [2, 5]");
  refused(with(&Inputs::lora_a, in.lora_a.to(at::kInt)),
          "lora_a: expected a floating-point dtype, found Int");
  refused(with(&Inputs::lora_b, random({5, 3})), "lora_b: expected shape [5, 2], found [5, 3]");
  refused(with(&Inputs::lora_b, in.lora_b.to(at::kInt)),
          "lora_b: expected a floating-point dtype, found Int");
  refused(with(&Inputs::mask, random({3, 3})), "dropout_mask: expected shape [3, 4], found [3, 3]");
  refused(with(&Inputs::mask, in.mask.to(at::kBool)),
          "dropout_mask: expected a floating-point dtype, found Bool");
  refused(with(&Inputs::mask, in.mask.clone().requires_grad_(true)),
          "dropout_mask: expected a constant, found one that requires a gradient");
  const std::string device = ": expected device " + in.x.device().str() + ", found meta";
  refused(with(&Inputs::weight, in.weight.to(at::kMeta)), "weight" + device);
  refused(with(&Inputs::bias, in.bias.to(at::kMeta)), "bias" + device);
  refused(with(&Inputs::lora_a, in.lora_a.to(at::kMeta)), "lora_a" + device);
  refused(with(&Inputs::lora_b, in.lora_b.to(at::kMeta)), "lora_b" + device);
  refused(with(&Inputs::mask, in.mask.to(at::kMeta)), "dropout_mask" + device);
}

TEST_CASE("lora_linear refuses double backward", "[lora_linear]") {
  Inputs in = make_inputs(3, 4, 5, 2, at::kFloat);
  in.x.requires_grad_(true);
  check_refused(
      [&] {
        torch::autograd::grad({in.found().sum()}, {in.x}, {}, /*retain_graph=*/true,
                              /*create_graph=*/true);
      },
      "[lora_linear] double backward");
}
