// A tiny model on a folder of its own, with an adapter that matters: what exports start from.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>

#include "linearize/convert.h"
#include "lora/lora.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace tigon::testing {

inline const LoraOptions kTestLora = {.rank = 2, .alpha = 4, .targets = {"q_proj", "down_proj"}};

/// Writes the teacher's folder ROOT/base with weights of an element type.
inline std::filesystem::path write_base(const TemporaryFolder& root,
                                        at::ScalarType dtype = at::kFloat) {
  const std::filesystem::path folder = root / "base";
  std::filesystem::create_directory(folder);
  Model model = tiny_model(/*seed=*/1, dtype);
  model.config.dtype = dtype_name(to_dtype(dtype));
  write_model_folder(model, folder);
  return folder;
}

/// Loads a teacher's folder and gives it a plan's mixers.
inline LoadedModel load_with_plan(const std::filesystem::path& folder, const Plan& plan,
                                  at::ScalarType dtype = at::kFloat) {
  LoadedModel loaded = load_any_model(folder, dtype, test_device());
  loaded.plan = plan;
  loaded.stack = build_stack(plan, loaded.model.config);
  return loaded;
}

/// Puts an adapter with random values of this size on a model.
inline void add_random_adapter(LoadedModel& loaded, double size) {
  add_adapters(loaded.model.weights, kTestLora, 1);
  const at::NoGradGuard no_grad;
  uint64_t seed = 10;
  for (const auto& [name, tensor] : adapter_parameters(loaded.model.weights)) {
    at::Tensor(tensor).copy_(random_tensor(tensor.sizes(), seed++) * size);
  }
}

inline Conversion conversion_of(const LoadedModel& loaded) {
  return {loaded.stack, make_report(loaded.plan, loaded.stack, loaded.model)};
}

/// Logits of 40 tokens, adapters on.
inline at::Tensor logits_of_tokens(const LoadedModel& loaded) {
  const at::NoGradGuard no_grad;
  const Batch batch =
      make_batch({random_tokens(40, loaded.model.config.vocab_size, 7)}, loaded.model.device);
  return logits_of(loaded.model, forward_hidden(loaded.model, loaded.stack, batch));
}

}  // namespace tigon::testing
