#include "sweep/run_names.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <string_view>

namespace tigon {
namespace {

/// The last `parts` words of a key.
std::string ending(const std::string& key, int parts) {
  size_t start = key.size();
  for (int i = 0; i < parts && start != std::string::npos && start > 0; ++i) {
    start = key.rfind('.', start - 1);
  }
  return start == std::string::npos ? key : key.substr(start + 1);
}

/// A value as part of a folder's name: "[q_proj, v_proj]" → "q_proj-v_proj".
std::string plain(const std::string& value) {
  std::string text;
  for (const unsigned char letter : value) {
    const bool is_kept =
        std::isalnum(letter) != 0 || std::string_view("._+-").find(letter) != std::string::npos;
    if (is_kept) {
      text += static_cast<char>(letter);
    } else if (!text.empty() && text.back() != '-') {
      text += '-';
    }
  }
  while (!text.empty() && text.back() == '-') text.pop_back();
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<std::string> varied_keys(const SweepConfig& config) {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& key) {
    if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  };
  for (const Variant& variant : config.list) {
    for (const Setting& setting : variant.settings) add(setting.key);
  }
  for (const Variation& variation : config.grid) add(variation.key);
  return keys;
}

std::map<std::string, std::string> shortest_keys(const std::vector<std::string>& keys) {
  std::map<std::string, std::string> names;
  for (const std::string& key : keys) {
    for (int parts = 1; !names.contains(key); ++parts) {
      const std::string name = ending(key, parts);
      const auto has_it = [&](const std::string& other) {
        return other != key && ending(other, parts) == name;
      };
      // A number alone (of a layer) says nothing.
      const bool is_word = std::isdigit(static_cast<unsigned char>(name.front())) == 0;
      if (name == key || (is_word && std::ranges::none_of(keys, has_it))) names[key] = name;
    }
  }
  return names;
}

std::string run_name(const Variant& variant, const std::vector<Setting>& combination,
                     const std::map<std::string, std::string>& short_keys) {
  std::vector<std::string> parts;
  const auto add = [&](const Setting& setting) {
    parts.push_back(short_keys.at(setting.key) + "-" + plain(setting.value));
  };
  if (!variant.name.empty()) {
    parts.push_back(variant.name);
  } else {
    std::ranges::for_each(variant.settings, add);
  }
  std::ranges::for_each(combination, add);
  return parts.empty() ? "run" : fmt::format("{}", fmt::join(parts, "_"));
}

std::string with_seed(const std::string& name, int64_t seed) {
  return fmt::format("{}_seed-{}", name, seed);
}

std::string without_seed(const std::string& name) {
  const size_t place = name.rfind("_seed-");
  const auto is_digit = [](unsigned char letter) { return std::isdigit(letter) != 0; };
  if (place == std::string::npos) return name;
  const std::string_view number = std::string_view(name).substr(place + 6);
  return !number.empty() && std::ranges::all_of(number, is_digit) ? name.substr(0, place) : name;
}

}  // namespace tigon
