#include "train/parameters.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

LoadedModel tiny_loaded(bool tied = false) {
  LoadedModel loaded;
  loaded.model = random_model(tiny_config(2, tied));
  loaded.stack = make_teacher_stack(loaded.model.config);
  return loaded;
}

}  // namespace

TEST_CASE("LoRA trains adapters alone", "[parameters]") {
  LoadedModel loaded = tiny_loaded();
  const auto parameters =
      make_trainable(loaded, "lora", {.rank = 4, .targets = {"q_proj", "v_proj"}}, 1);
  CHECK(parameters.size() == 2 * 2 * 2);  // layers × targets × (A, B)
  const ParameterTable table = count_parameters(loaded, parameters);
  // q: 48 → 64, v: 48 → 32.
  CHECK(table.lora == 2 * 4 * ((48 + 64) + (48 + 32)));
  CHECK(table.trainable == table.lora);
  CHECK(table.added == 0);
  visit_parameters(std::as_const(loaded.model.weights),
                   [](const std::string& name, const at::Tensor& tensor) {
                     INFO(name);
                     CHECK_FALSE(tensor.requires_grad());
                   });
}

TEST_CASE("training all parameters keeps tied embeddings tied", "[parameters]") {
  LoadedModel loaded = tiny_loaded(/*tied=*/true);
  const auto parameters = make_trainable(loaded, "all", {}, 1);
  const ParameterTable table = count_parameters(loaded, parameters);
  CHECK(table.trainable == table.base);
  CHECK(loaded.model.weights.lm_head.is_same(loaded.model.weights.embed_tokens));
  CHECK(loaded.model.weights.lm_head.requires_grad());
}

TEST_CASE("training new parameters is refused where a recipe adds none", "[parameters]") {
  LoadedModel loaded = tiny_loaded();
  loaded.plan.recipe = "window";
  check_refused([&] { make_trainable(loaded, "new", {}, 1); }, "window");
}

TEST_CASE("a parameter without a gradient is named", "[parameters]") {
  const at::Tensor used = random_tensor({3}, 1).requires_grad_(true);
  const at::Tensor unused = random_tensor({3}, 2).requires_grad_(true);
  used.square().sum().backward();
  check_gradients_reach({{"used", used}});
  check_refused(
      [&] {
        check_gradients_reach({{"used", used}, {"layers.3.unused", unused}});
      },
      "layers.3.unused");
}

TEST_CASE("NaN and infinity in parameters are refused", "[parameters]") {
  const at::Tensor fine = random_tensor({3}, 1);
  check_finite({{"fine", fine}}, "step 1");
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    at::Tensor broken = random_tensor({3}, 1);
    broken[1] = value;
    check_refused(
        [&] {
          check_finite({{"fine", fine}, {"broken", broken}}, "step 9");
        },
        "step 9: NaN or infinity in parameters: broken");
  }
}

TEST_CASE("restoring refuses missing tensors and other shapes", "[parameters]") {
  const TemporaryFolder folder;
  const at::Tensor stored = random_tensor({3, 2}, 1);
  save_tensors(folder / "x.safetensors", {{"a.w", stored}});
  const at::Tensor target = random_tensor({3, 2}, 5);
  restore_parameters(folder / "x.safetensors", "a.", {{"w", target}});
  check_bitwise("w", target, stored);
  check_refused(
      [&] {
        restore_parameters(folder / "x.safetensors", "a.", {{"missing", target}});
      },
      "a.missing");
  check_refused(
      [&] {
        restore_parameters(folder / "x.safetensors", "a.", {{"w", random_tensor({2, 3}, 1)}});
      },
      "expected Float 2 x 3, found Float 3 x 2");
}
