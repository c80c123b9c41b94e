// A tokenizer for tests of what comes after tokenizing: one id a byte, BOS 256, EOS 257.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/tokenizer.h"

namespace tigon::testing {

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    ++num_calls;
    if (text.find("refuse me") != text.npos) fail("a text that this tokenizer refuses");
    std::vector<int32_t> ids;
    // A document of spaces has no ids.
    for (const unsigned char byte : text) {
      if (byte != ' ') ids.push_back(byte);
    }
    return ids;
  }
  std::string decode(std::span<const int32_t> ids) const override {
    return {ids.begin(), ids.end()};
  }
  int64_t vocab_size() const override { return 258; }
  std::optional<int32_t> bos_id() const override { return 256; }
  std::optional<int32_t> eos_id() const override { return 257; }
  std::string fingerprint() const override { return fingerprint_text; }
  std::vector<std::filesystem::path> files() const override { return {}; }

  std::string fingerprint_text = "bytes";
  mutable std::atomic<int> num_calls{0};
};

}  // namespace tigon::testing
