// The products of a step of a tiny model, against a list written by hand.
#include "bench/step_products.h"

#include "bench/model_shapes.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr ProductKind kForward = ProductKind::kForward;
constexpr ProductKind kInput = ProductKind::kInputGradient;
constexpr ProductKind kWeight = ProductKind::kWeightGradient;

void check_products(const std::vector<Product>& found, const std::vector<Product>& expected) {
  CHECK(products_to_json(found).dump() == products_to_json(expected).dump());
}

}  // namespace

// tiny: 2 layers, hidden 64, MLP 128, 4 query and 2 KV heads of 16, vocabulary 128.

TEST_CASE("products of a step that trains adapters on packed weights") {
  const StepShape step{.tokens = 10, .lora_rank = 3, .is_packed = true, .logits_tokens = 4};
  check_products(step_products(model_shape("tiny"), step),
                 {{"q, k, v", kForward, 10, 64, 128, 2},
                  {"q, k, v", kInput, 10, 64, 128, 1},  // not of the first layer
                  {"gate, up", kForward, 10, 64, 256, 2},
                  {"gate, up", kInput, 10, 64, 256, 2},
                  {"A of q, k, v", kForward, 10, 64, 9, 2},
                  {"A of q, k, v", kInput, 10, 64, 9, 1},
                  {"A of q, k, v", kWeight, 10, 64, 9, 2},
                  {"B of q, k, v", kForward, 10, 9, 128, 2},
                  {"B of q, k, v", kInput, 10, 9, 128, 2},
                  {"B of q, k, v", kWeight, 10, 9, 128, 2},
                  {"o", kForward, 10, 64, 64, 2},
                  {"o", kInput, 10, 64, 64, 2},
                  {"down", kForward, 10, 128, 64, 2},
                  {"down", kInput, 10, 128, 64, 2},
                  {"logits", kForward, 4, 64, 128, 2},
                  {"logits", kInput, 4, 64, 128, 2},
                  {"logits, last chunk", kForward, 2, 64, 128, 1},
                  {"logits, last chunk", kInput, 2, 64, 128, 1}});
}

TEST_CASE("products of a step that trains everything") {
  const StepShape step{.tokens = 10, .trains_all = true, .logits_tokens = 10};
  check_products(step_products(model_shape("tiny"), step),
                 {{"q", kForward, 10, 64, 64, 2},
                  {"q", kInput, 10, 64, 64, 2},
                  {"q", kWeight, 10, 64, 64, 2},
                  {"k or v", kForward, 10, 64, 32, 4},
                  {"k or v", kInput, 10, 64, 32, 4},
                  {"k or v", kWeight, 10, 64, 32, 4},
                  {"gate or up", kForward, 10, 64, 128, 4},
                  {"gate or up", kInput, 10, 64, 128, 4},
                  {"gate or up", kWeight, 10, 64, 128, 4},
                  {"o", kForward, 10, 64, 64, 2},
                  {"o", kInput, 10, 64, 64, 2},
                  {"o", kWeight, 10, 64, 64, 2},
                  {"down", kForward, 10, 128, 64, 2},
                  {"down", kInput, 10, 128, 64, 2},
                  {"down", kWeight, 10, 128, 64, 2},
                  {"logits", kForward, 10, 64, 128, 1},
                  {"logits", kInput, 10, 64, 128, 1},
                  {"logits", kWeight, 10, 64, 128, 1}});
}

TEST_CASE("operations of a step") {
  // Three products of each weight and token where everything is trained: 6 operations a parameter
  // and token, norms aside, the embedding as the head.
  const StepShape all{.tokens = 10, .trains_all = true, .logits_tokens = 10};
  const int64_t layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128;
  CHECK(total_flop(step_products(model_shape("tiny"), all)) == 6 * 10 * (2 * layer + 64 * 128));

  // Packing changes no sum but the zeros between the blocks of B; what is run again adds its
  // forward pass.
  StepShape lora{.tokens = 10, .lora_rank = 3, .is_packed = false, .logits_tokens = 10};
  const int64_t apart = total_flop(step_products(model_shape("tiny"), lora));
  lora.is_packed = true;
  const int64_t packed = total_flop(step_products(model_shape("tiny"), lora));
  const int64_t zeros = (9 - 3) * 128;
  CHECK(packed - apart == 2 * 10 * zeros * (2 + 2 + 2));
  lora.kept = Kept::kAllButMlp;
  CHECK(total_flop(step_products(model_shape("tiny"), lora)) - packed ==
        2 * 10 * 2 * (3 * 64 * 128));
  lora.kept = Kept::kLayerInputs;
  const int64_t adapters = 64 * 9 + 9 * 128;
  CHECK(total_flop(step_products(model_shape("tiny"), lora)) - packed ==
        2 * 10 * 2 * (layer + adapters));
}

TEST_CASE("a teacher adds a forward pass without adapters") {
  StepShape step{.tokens = 10, .lora_rank = 3, .logits_tokens = 4};
  const int64_t alone = total_flop(step_products(model_shape("tiny"), step));
  step.has_teacher = true;
  // q, k, v; o; gate, up; down of two layers; and the head
  const int64_t weights = 2 * (64 * 128 + 64 * 64 + 64 * 256 + 128 * 64) + 64 * 128;
  CHECK(total_flop(step_products(model_shape("tiny"), step)) - alone == 2 * 10 * weights);
  step.kept = Kept::kLayerInputs;
  const int64_t recomputed = total_flop(step_products(model_shape("tiny"), step));
  step.has_teacher = false;
  CHECK(recomputed - total_flop(step_products(model_shape("tiny"), step)) == 2 * 10 * weights);
}

TEST_CASE("the products of a step can be timed") {
  const StepShape step{.tokens = 10, .lora_rank = 3, .logits_tokens = 4};
  const Stopwatch stopwatch(test_device(), 2);
  CHECK(time_products(stopwatch, step_products(model_shape("tiny"), step), at::kFloat).median > 0);
}

TEST_CASE("named shapes have the sizes of the models they are named after") {
  const auto parameters = [](const std::string& name) {
    int64_t count = 0;
    visit_parameters(
        meta_weights(model_shape(name), at::kFloat),
        [&](const std::string&, const at::Tensor& tensor) { count += tensor.numel(); });
    return count;
  };
  CHECK(parameters("1B") == 1235814400);
  CHECK(parameters("3B") == 3212749824);
  CHECK(parameters("8B") == 8030261248);
  CHECK(parameters("llama-2-7B") == 6738415616);
  CHECK(parameters("mistral-7B") == 7241732096);
}
