#include "train/weight_change.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lora/lora.h"
#include "support/catch.h"
#include "train/run_parts.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

double length_of(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).norm().item<double>();
}

}  // namespace

TEST_CASE("the change of adapted layers is that of their merged weights", "[weight change]") {
  const TinyRun run;
  RunConfig config = run.config();
  const RunParts parts = build_run_parts(config);
  CHECK(weight_change(config, parts).at("all") == 0);  // B is zero
  const at::NoGradGuard no_gradient;
  uint64_t seed = 0;
  for (auto& [name, tensor] : adapter_parameters(parts.loaded.model.weights)) {
    tensor.copy_(random_tensor(tensor.sizes(), ++seed) * 0.1);
  }
  double change = 0, weight = 0, q_change = 0, q_weight = 0;
  visit_linears(parts.loaded.model.weights, [&](const std::string& name, const Linear& linear) {
    if (!linear.adapter) return;
    const double moved = std::pow(length_of(merged_weight(linear) - linear.weight), 2);
    const double before = std::pow(length_of(linear.weight), 2);
    change += moved;
    weight += before;
    if (name.ends_with("q_proj")) q_change += moved;
    if (name.ends_with("q_proj")) q_weight += before;
  });
  const Json result = weight_change(config, parts);
  CHECK(result.size() == 3);  // all, q_proj, v_proj
  CHECK(result.at("all").get<double>() == Approx(std::sqrt(change / weight)).epsilon(1e-5));
  CHECK(result.at("q_proj").get<double>() == Approx(std::sqrt(q_change / q_weight)).epsilon(1e-5));
}

TEST_CASE("with all parameters trained, the change is the difference to the folder",
          "[weight change]") {
  const TinyRun run;
  RunConfig config = run.config({"train.trainable=all", "lora=null"});
  const RunParts parts = build_run_parts(config);
  CHECK(weight_change(config, parts).at("all") == 0);
  const at::NoGradGuard no_gradient;
  visit_linears(parts.loaded.model.weights, [](const std::string& name, const Linear& linear) {
    if (name.ends_with("up_proj")) linear.weight.mul_(1.5);
  });
  const Json result = weight_change(config, parts);
  CHECK(result.at("up_proj").get<double>() == Approx(0.5));
  CHECK(result.at("down_proj") == 0);
  CHECK(result.at("all").get<double>() > 0);
}

TEST_CASE("random models have nothing to compare with", "[weight change]") {
  const TinyRun run;
  RunConfig config = run.config(TinyRun::random_model(run));
  const RunParts parts = build_run_parts(config);
  CHECK(weight_change(config, parts).is_null());
}
