#include "support/gradcheck.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/tolerance.h"

namespace tigon::testing {

void check_gradients(
    const std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>& function,
    const std::vector<std::pair<std::string, at::Tensor>>& inputs, int directions) {
  constexpr double kStep = 1e-5;
  std::vector<at::Tensor> values;
  for (const auto& [name, tensor] : inputs) {
    REQUIRE(tensor.scalar_type() == at::kDouble);
    values.push_back(tensor.detach().clone().requires_grad_(true));
  }
  const std::vector<at::Tensor> outputs = function(values);
  std::vector<at::Tensor> projections;
  for (size_t i = 0; i < outputs.size(); ++i)
    projections.push_back(random_tensor(outputs[i].sizes(), 1000 + i, at::kDouble));
  const auto project = [&](const std::vector<at::Tensor>& found) {
    at::Tensor sum = at::zeros({}, values[0].options());
    for (size_t i = 0; i < found.size(); ++i)
      sum = sum + (found[i].to(at::kDouble) * projections[i]).sum();
    return sum;
  };
  const std::vector<at::Tensor> gradients =
      torch::autograd::grad({project(outputs)}, values, {}, false, false, /*allow_unused=*/true);
  for (size_t i = 0; i < values.size(); ++i) {
    INFO("gradient of " << inputs[i].first);
    REQUIRE(gradients[i].defined());
    for (int direction = 0; direction < directions; ++direction) {
      const at::Tensor along = random_tensor(values[i].sizes(), 77 * i + direction, at::kDouble);
      const auto at_step = [&](double step) {
        at::NoGradGuard no_grad;
        std::vector<at::Tensor> moved = values;
        moved[i] = values[i] + step * along;
        return project(function(moved)).item<double>();
      };
      const double expected = (at_step(kStep) - at_step(-kStep)) / (2 * kStep);
      const double found = (gradients[i] * along).sum().item<double>();
      CHECK(found == Approx(expected).epsilon(kFiniteDifference).margin(kFiniteDifference));
    }
  }
}

}  // namespace tigon::testing
