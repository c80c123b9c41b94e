#include "export/adapted_model.h"
#include "export/hf_folder.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("an adapter folder rebuilds the student on its teacher", "[adapter_export]") {
  const TemporaryFolder root;
  const Plan plan = load_plan("liger-gla", {"window_keys=5", "hybrid.layers=[0]"});
  LoadedModel student = load_with_plan(write_base(root), plan);
  add_random_adapter(student, 0.1);
  export_adapter(student, kTestLora, root / "adapter", {.base_folder = student.folder});

  const Json stored = read_json_file(root / "adapter/linearize.json");
  CHECK(plan_from_json(stored["linearize"], "linearize.json") == plan);
  CHECK(stored["base_fingerprint"] == checkpoint_fingerprint(student.folder));
  CHECK_FALSE(std::filesystem::exists(root / "adapter/new_parameters.safetensors"));
  const LoadedModel again =
      load_any_model(student.folder, at::kFloat, test_device(), root / "adapter");
  CHECK(again.plan == plan);
  check_bitwise("logits", logits_of_tokens(again), logits_of_tokens(student));
}

TEST_CASE("an adapter is not written over an existing folder", "[adapter_export]") {
  const TemporaryFolder root;
  LoadedModel student = load_with_plan(write_base(root), {.recipe = "window"});
  add_random_adapter(student, 0.1);
  root.write("adapter/mine.txt", "mine");
  check_refused<Error>(
      [&] {
        export_adapter(student, kTestLora, root / "adapter", {.base_folder = student.folder});
      },
      "exists and is not empty");
  CHECK(root.names() == std::vector<std::string>{"adapter", "base"});
}
