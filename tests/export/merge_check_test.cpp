#include "export/merge_check.h"

#include <limits>

#include "export/adapted_model.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// The base's folder with one weight changed.
void change_weight(const std::filesystem::path& folder, double factor) {
  Model model = tiny_model();
  model.weights.layers[1].down_proj.weight.mul_(factor);
  write_model_folder(model, folder);
}

}  // namespace

TEST_CASE("a written folder is compared with the model in memory", "[merge_check]") {
  const TemporaryFolder root;
  const LoadedModel loaded = load_with_plan(write_base(root), Plan{});
  CHECK_NOTHROW(check_written_folder(loaded, root / "base", DType::kFloat32));
  change_weight(root / "base", 1.02);
  // Beyond float32's tolerance, within that of lower precision.
  check_refused<Error>([&] { check_written_folder(loaded, root / "base", DType::kFloat32); },
                       "expected at most 0.001");
  CHECK_NOTHROW(check_written_folder(loaded, root / "base", DType::kBFloat16));
  change_weight(root / "base", 2);
  check_refused<Error>([&] { check_written_folder(loaded, root / "base", DType::kBFloat16); },
                       "expected at most 0.03");
  change_weight(root / "base", std::numeric_limits<double>::quiet_NaN());
  check_refused<Error>([&] { check_written_folder(loaded, root / "base", DType::kBFloat16); },
                       "by nan");
}

TEST_CASE("the tolerance follows the coarser of storage and arithmetic", "[merge_check]") {
  CHECK(merge_tolerance(DType::kFloat32, at::kFloat) == 1e-3);
  CHECK(merge_tolerance(DType::kBFloat16, at::kFloat) == 3e-2);
  CHECK(merge_tolerance(DType::kFloat32, at::kBFloat16) == 3e-2);
}
