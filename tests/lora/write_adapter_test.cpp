// Not a test of its own: writes an adapter for the Python tests, which open it with peft.

#include <ATen/ATen.h>

#include <cstdlib>

#include "lora/adapter_folder.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

// $TIGON_MODEL_FOLDER is read, $TIGON_ADAPTER_FOLDER exists and is filled.
TEST_CASE("write an adapter of random numbers", "[.write_adapter]") {
  const char* model_folder = std::getenv("TIGON_MODEL_FOLDER");
  const char* adapter_folder = std::getenv("TIGON_ADAPTER_FOLDER");
  REQUIRE(model_folder != nullptr);
  REQUIRE(adapter_folder != nullptr);
  Model model = load_model(model_folder, at::kFloat, test_device());
  const LoraOptions options = {.rank = 4, .alpha = 6, .targets = {"q_proj", "o_proj", "gate_proj"}};
  add_adapters(model.weights, options, 3);
  uint64_t seed = 40;
  for (const auto& [name, tensor] : adapter_parameters(model.weights)) {
    const at::NoGradGuard no_gradient;
    at::Tensor(tensor).copy_(random_tensor(tensor.sizes(), seed++) * 0.2);
  }
  write_adapter(adapter_folder, model.weights, options, model_folder);
}
