#include "linearize/transfer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "linearize/beside_teacher.h"

namespace tigon {
namespace {

bool is_trained(const Mixer& mixer) {
  return std::ranges::any_of(mixer.parameters(),
                             [](const auto& named) { return named.second.requires_grad(); });
}

}  // namespace

at::Tensor transfer_backward(const Model& model, const MixerStack& stack, const Batch& batch,
                             double weight) {
  const int64_t layers =
      std::ranges::count_if(stack, [](const auto& mixer) { return is_trained(*mixer); });
  if (layers == 0) fail("attention transfer: no mixer has parameters to train");
  at::Tensor sum = at::zeros({}, at::device(model.device).dtype(at::kFloat));
  run_beside_teacher(
      model, stack, batch,
      [&](const Mixer& student, const MixerInput& input, const at::Tensor& expected) {
        if (!is_trained(student)) return;
        const at::AutoGradMode with_gradient(true);
        const at::Tensor found = student.forward(input, nullptr);
        const at::Tensor error = at::mse_loss(found.to(at::kFloat), expected.to(at::kFloat)) /
                                 static_cast<double>(layers);
        (error * weight).backward();
        sum += error.detach();
      });
  return sum;
}

}  // namespace tigon
