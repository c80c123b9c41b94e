#include "sweep/sweep_config.h"

#include <torch/cuda.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "core/config_scalar.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 8> kSweepKeys = {"base",  "set",    "grid",     "list",
                                                        "seeds", "folder", "parallel", "devices"};

std::string override_key(const std::string& text) {
  return text.substr(0, text.find('='));
}

bool is_for_sweep(const std::string& override_text) {
  const std::string key = override_key(override_text);
  const std::string first = key.substr(0, key.find_first_of(".["));
  return std::ranges::find(kSweepKeys, first) != kSweepKeys.end();
}

/// Why a key of the training config may not be given; empty if it may.
std::string why_reserved(const std::string& key) {
  if (key == "run.folder" || key == "run") {
    return "the sweep names the run folders (key `folder`)";
  }
  if (key == "eval.known") return "the sweep keeps known losses in its own folder";
  if (key == "device") return "the sweep places the runs (key `devices`)";
  if (key == "seed") return "expected in the list `seeds`";
  return {};
}

fs::path find_base(ConfigReader& reader, const fs::path& file) {
  const std::string name = reader.text("base");
  if (name.empty()) return {};
  const fs::path beside = (file.parent_path() / name).lexically_normal();
  if (fs::is_regular_file(beside)) return beside;
  if (!fs::is_regular_file(name)) {
    reader.problem("base", fmt::format("expected a training config, found neither '{}' nor '{}'",
                                       beside.string(), name));
  }
  return name;
}

/// Reads the settings of a mapping.
std::vector<Setting> read_settings(ConfigReader& reader, std::string_view section) {
  std::vector<Setting> settings;
  for (const YamlEntry& entry : reader.entries(section)) {
    const std::string reserved = why_reserved(entry.key);
    if (!reserved.empty()) reader.problem(section, entry, reserved);
    settings.push_back({entry.key, one_line_yaml(entry.value)});
  }
  return settings;
}

std::vector<Variation> read_grid(ConfigReader& reader) {
  std::vector<Variation> grid;
  for (const YamlEntry& entry : reader.entries("grid")) {
    const std::string reserved = why_reserved(entry.key);
    if (!reserved.empty()) reader.problem("grid", entry, reserved);
    Variation variation{entry.key, {}};
    for (const YamlNode& item : entry.value.items) {
      const std::string value = one_line_yaml(item);
      if (std::ranges::find(variation.values, value) != variation.values.end()) {
        reader.problem("grid", entry, fmt::format("{} is listed twice", value));
      }
      variation.values.push_back(value);
    }
    if (variation.values.empty()) {
      reader.problem("grid", entry, "expected a list of values, found " + entry.value.shown());
    }
    grid.push_back(std::move(variation));
  }
  return grid;
}

bool is_folder_name(const std::string& name) {
  const auto is_allowed = [](unsigned char letter) {
    return std::isalnum(letter) != 0 || std::string_view("._+-").find(letter) != std::string::npos;
  };
  return !name.empty() && name.front() != '.' && std::ranges::all_of(name, is_allowed);
}

Variant read_variant(ConfigReader& reader) {
  Variant variant;
  for (const YamlEntry& entry : reader.entries("")) {
    if (entry.key != "name") {
      const std::string reserved = why_reserved(entry.key);
      if (!reserved.empty()) reader.problem("", entry, reserved);
      variant.settings.push_back({entry.key, one_line_yaml(entry.value)});
      continue;
    }
    variant.name = entry.value.scalar;
    if (!is_folder_name(variant.name)) {
      reader.problem("", entry,
                     fmt::format("expected letters, digits, '.', '_', '+' and '-', found {}",
                                 entry.value.shown()));
    }
  }
  if (variant.settings.empty() && variant.name.empty()) {
    reader.problem("", "expected a name or at least one key, found neither");
  }
  return variant;
}

/// GPUs of this process.
std::vector<std::string> all_gpus() {
  std::vector<std::string> names;
  const int num_gpus = static_cast<int>(torch::cuda::device_count());
  for (int i = 0; i < num_gpus; ++i) names.push_back(fmt::format("cuda:{}", i));
  return names;
}

std::vector<std::string> read_devices(ConfigReader& reader) {
  std::vector<std::string> devices = reader.texts("devices", {"auto"});
  const std::vector<std::string> gpus = all_gpus();
  if (devices == std::vector<std::string>{"auto"}) {
    return gpus.empty() ? std::vector<std::string>{"cpu"} : gpus;
  }
  if (devices == std::vector<std::string>{"cpu"}) return devices;
  std::set<std::string> seen;
  for (const std::string& device : devices) {
    if (!device.starts_with("cuda:") || !parse_integer(device.substr(5))) {
      reader.problem("devices",
                     fmt::format("expected auto, cpu or a list of cuda:N, found \"{}\"", device));
    } else if (std::ranges::find(gpus, device) == gpus.end()) {
      reader.problem("devices",
                     fmt::format("{}: this machine shows {} GPU(s)", device, gpus.size()));
    } else if (!seen.insert(device).second) {
      reader.problem("devices", device + " is listed twice");
    }
  }
  if (devices.empty()) reader.problem("devices", "expected at least one device, found none");
  return devices.empty() ? std::vector<std::string>{"cpu"} : devices;
}

/// A key may vary in one place only, and what varies cannot be fixed.
void check_keys(ConfigReader& reader, const SweepConfig& config) {
  std::set<std::string> varied;
  for (const Variant& variant : config.list) {
    for (const Setting& setting : variant.settings) varied.insert(setting.key);
  }
  for (const Variation& variation : config.grid) {
    if (varied.contains(variation.key)) {
      reader.problem("grid", variation.key + " varies in `list` as well");
    }
    for (const Setting& setting : config.set) {
      if (setting.key == variation.key) {
        reader.problem("grid", variation.key + " is fixed in `set` as well");
      }
    }
    varied.insert(variation.key);
  }
  for (const std::string& text : config.overrides) {
    const std::string key = override_key(text);
    const std::string reserved = why_reserved(key);
    if (!reserved.empty()) reader.problem(key, fmt::format("override \"{}\": {}", text, reserved));
    if (varied.contains(key)) {
      reader.problem(key, fmt::format("override \"{}\": the sweep varies this key", text));
    }
  }
}

void check_seeds(ConfigReader& reader, const std::vector<int64_t>& seeds) {
  std::set<int64_t> seen;
  for (const int64_t seed : seeds) {
    if (!seen.insert(seed).second) reader.problem("seeds", fmt::format("{} is listed twice", seed));
  }
}

}  // namespace

SweepConfig read_sweep_config(const fs::path& file, const std::vector<std::string>& overrides) {
  SweepConfig config;
  config.file = file;
  std::vector<std::string> own;
  for (const std::string& text : overrides) {
    (is_for_sweep(text) || text.find('=') == std::string::npos ? own : config.overrides)
        .push_back(text);
  }
  ConfigReader reader = ConfigReader::from_file(file, own);
  config.base = find_base(reader, file);
  config.set = read_settings(reader, "set");
  config.grid = read_grid(reader);
  for (ConfigReader& item : reader.items("list")) config.list.push_back(read_variant(item));
  config.seeds = reader.integers("seeds", {}, at_least(0));
  config.folder = reader.text("folder");
  constexpr double kMostParallel = 256;
  config.parallel = reader.integer("parallel", 1, between(1, kMostParallel));
  config.devices = read_devices(reader);
  check_seeds(reader, config.seeds);
  check_keys(reader, config);
  reader.finish();
  return config;
}

}  // namespace tigon
