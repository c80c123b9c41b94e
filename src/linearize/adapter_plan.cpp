#include "linearize/adapter_plan.h"

namespace tigon {

namespace {
constexpr const char* kFileName = "linearize.json";
}

void write_adapter_plan(const std::filesystem::path& folder, const AdapterPlan& adapter) {
  write_json_file(folder / kFileName, {{"linearize", plan_to_json(adapter.plan)},
                                       {"base_fingerprint", adapter.base_fingerprint}});
}

std::optional<AdapterPlan> read_adapter_plan(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kFileName;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json json = read_json_file(path);
  if (!json.is_object() || !json.contains("linearize") || !json.contains("base_fingerprint") ||
      !json["base_fingerprint"].is_string()) {
    fail("{}: expected an object with \"linearize\" and the text \"base_fingerprint\"",
         path.string());
  }
  return AdapterPlan{plan_from_json(json["linearize"], path.string()), json["base_fingerprint"]};
}

}  // namespace tigon
