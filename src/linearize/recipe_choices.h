// Settings of recipes that are a choice of words, and the seeds of their random weights.
#pragma once
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/random.h"
#include "linearize/recipes.h"

namespace tigon {

/// The words of a choice and what they stand for.
template <class Value, size_t count>
using Choices = std::array<std::pair<std::string_view, Value>, count>;

template <class Value, size_t count>
Value chosen(const Json& settings, const char* key, const Choices<Value, count>& choices) {
  const auto& word = settings.at(key).get_ref<const std::string&>();
  const auto found = std::ranges::find(choices, std::string_view(word),
                                       &std::pair<std::string_view, Value>::first);
  if (found == choices.end()) throw std::logic_error(std::string(key) + " " + word);
  return found->second;
}

/// Reads one of the words; a problem names all of them.
template <class Value, size_t count>
std::string read_choice(ConfigReader& reader, const char* key,
                        const Choices<Value, count>& choices) {
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) words.emplace_back(word);
  return reader.choice(key, words);
}

/// Every layer draws its own maps.
inline uint64_t layer_seed(const Json& settings, const MixerSizes& sizes) {
  return derive_seed(settings.at("seed").get<uint64_t>(), fmt::format("layer {}", sizes.layer));
}

}  // namespace tigon
