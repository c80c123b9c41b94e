// A 128-bit hash (XXH3) that names content: corpora, tokenizers. Not meant to withstand an
// attacker.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tigon {

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  /// Adds a part together with its length, so that ("ab", "c") and ("a", "bc") differ.
  ContentHash& add(std::span<const std::byte> part);
  ContentHash& add(std::string_view part);

  /// Adds a file's bytes, read piece by piece. Throws Error naming the file if it cannot be read.
  ContentHash& add_file(const std::filesystem::path& file);

  /// 32 hexadecimal digits; the same on every machine.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tigon
