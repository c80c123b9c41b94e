// linear_cross_entropy with a teacher's soft targets mixed in.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/cross_entropy_definition.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "ops/op_run.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr double kTargetWeight = 0.375, kTeacherWeight = 0.625;

// Inputs {hidden, head}; the teacher's hidden states have its own values in any dtype.
OpFunction mixture_op(const at::Tensor& targets, const at::Tensor& teacher) {
  return [=](const std::vector<at::Tensor>& in) {
    return std::vector<at::Tensor>{linear_cross_entropy(in[0], in[1], targets,
                                                        teacher.to(in[0].scalar_type()),
                                                        kTargetWeight, kTeacherWeight)
                                       .loss};
  };
}

OpFunction mixture(const at::Tensor& targets, const at::Tensor& teacher) {
  return [=](const std::vector<at::Tensor>& in) {
    const at::Tensor counted = targets.ne(kIgnoredTarget);
    const at::Tensor teacher_logits = at::linear(teacher.to(in[0].scalar_type()), in[1].detach());
    const at::Tensor soft =
        -(at::softmax(teacher_logits, 1) * at::log_softmax(at::linear(in[0], in[1]), 1)).sum(1);
    return std::vector<at::Tensor>{kTargetWeight * cross_entropy_definition(in[0], in[1], targets) +
                                   kTeacherWeight * soft.index({counted}).mean()};
  };
}

}  // namespace

TEST_CASE("linear_cross_entropy mixes in a teacher", "[linear_cross_entropy]") {
  for (const int64_t N : {1, 63, 65}) {
    for (const int64_t V : {1, 63, 64, 65, 1025}) {
      INFO("N " << N << ", V " << V);
      const at::Tensor targets = random_targets(N, V);
      const at::Tensor teacher = random_tensor({N, 17}, 3, at::kDouble);
      const std::vector<at::Tensor> inputs = {random_tensor({N, 17}, 1, at::kDouble),
                                              random_tensor({V, 17}, 2, at::kDouble)};
      const OpFunction op = mixture_op(targets, teacher), expected = mixture(targets, teacher);
      const OpRun reference = run_op(expected, inputs, at::kDouble);
      check_runs(run_op(op, inputs, at::kDouble), reference, {"loss"}, {"hidden", "head"},
                 kExactMath);
      check_runs(run_op(op, inputs, at::kFloat), reference, {"loss"}, {"hidden", "head"},
                 kFloat32Op);
    }
  }
}

TEST_CASE("linear_cross_entropy gradients with a teacher", "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(13, 11);
  const at::Tensor teacher = random_tensor({13, 5}, 3, at::kDouble);
  const at::Tensor head = random_tensor({11, 5}, 2, at::kDouble);
  const OpFunction op = mixture_op(targets, teacher);
  // The head's own gradient leaves the teacher's logits out: finite differences would not.
  check_gradients(
      [&](const std::vector<at::Tensor>& in) {
        return op({in[0], head});
      },
      {{"hidden", random_tensor({13, 5}, 1, at::kDouble)}});
}

TEST_CASE("linear_cross_entropy with a teacher tells the cross-entropy alone",
          "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(63, 65);
  const at::Tensor hidden = random_tensor({63, 17}, 1).requires_grad_(true);
  const at::Tensor head = random_tensor({65, 17}, 2), teacher = random_tensor({63, 17}, 3);
  const auto alone = linear_cross_entropy(hidden, head, targets);
  const auto mixed = linear_cross_entropy(hidden, head, targets, teacher, 0.25, 0.75);
  check_close("cross-entropy", mixed.cross_entropy, alone.loss, kFloat32Op);
  check_bitwise("without a teacher", alone.cross_entropy, alone.loss);
  CHECK(!mixed.cross_entropy.requires_grad());
  CHECK(mixed.loss.requires_grad());
  CHECK(mixed.count.item<int64_t>() == alone.count.item<int64_t>());
  // A teacher without weight costs and changes nothing.
  check_bitwise("no weight", linear_cross_entropy(hidden, head, targets, teacher).loss, alone.loss);
  // A teacher equal to the student: its part has no gradient.
  const auto same = linear_cross_entropy(hidden, head, targets, hidden.detach(), 0, 1);
  const at::Tensor gradient = torch::autograd::grad({same.loss}, {hidden})[0];
  CHECK(gradient.abs().max().item<double>() < kFloat32Op);
}

TEST_CASE("linear_cross_entropy gives a teacher no gradient", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({9, 3}, 1).requires_grad_(true);
  const at::Tensor teacher = random_tensor({9, 3}, 3).requires_grad_(true);
  linear_cross_entropy(hidden, random_tensor({7, 3}, 2), random_targets(9, 7), teacher, 0.5, 0.5)
      .loss.backward();
  CHECK(hidden.grad().defined());
  CHECK(!teacher.grad().defined());
}

TEST_CASE("linear_cross_entropy with a teacher in low precision", "[linear_cross_entropy]") {
  const at::Tensor targets = random_targets(65, 1032);
  const auto narrow = [](at::IntArrayRef shape, uint64_t seed) {
    return rounded_to_bf16(random_tensor(shape, seed, at::kDouble) * 0.25);
  };
  const std::vector<at::Tensor> inputs = {narrow({65, 63}, 1), narrow({1032, 63}, 2)};
  const at::Tensor teacher = narrow({65, 63}, 3);
  const OpFunction op = [&](const std::vector<at::Tensor>& in) {
    return std::vector<at::Tensor>{mixture_op(targets, teacher)(in)[0].to(in[0].scalar_type())};
  };
  check_low_precision_runs(op, mixture(targets, teacher), inputs, {"loss"}, {"hidden", "head"});
  check_repeatable(op, inputs, at::kBFloat16);
}

TEST_CASE("linear_cross_entropy refuses a wrong teacher", "[linear_cross_entropy]") {
  const at::Tensor hidden = random_tensor({5, 3}, 1), head = random_tensor({7, 3}, 2);
  const at::Tensor targets = random_targets(5, 7);
  const auto refused = [&](const std::optional<at::Tensor>& teacher, double target_weight,
                           double teacher_weight, const std::string& text) {
    check_refused(
        [&] {
          linear_cross_entropy(hidden, head, targets, teacher, target_weight, teacher_weight);
        },
        "[linear_cross_entropy] " + text);
  };
  refused(hidden.to(at::kBFloat16), 1, 1, "teacher_hidden: expected dtype Float, found BFloat16");
  refused(hidden.narrow(0, 0, 4), 1, 1, "teacher_hidden: expected shape [5, 3], found [4, 3]");
  refused(hidden.to(at::kMeta), 1, 1,
          "teacher_hidden: expected device " + hidden.device().str() + ", found meta");
  refused(std::nullopt, 1, 0.5, "teacher_hidden: expected with teacher_weight 0.5, found nothing");
  refused(hidden, -1, 0, "target_weight: expected a finite number >= 0, found -1");
  refused(hidden, 1, -0.5, "teacher_weight: expected a finite number >= 0, found -0.5");
}
