// What the fuzz targets share. A target reads its bytes as a file from outside would be read:
// tigon::Error is the right answer to a broken one, anything else that is thrown, a crash or a
// sanitizer's report is a finding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/error.h"

namespace tigon::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

/// Runs a reader; refusing the input is fine.
template <class Read>
void read_or_refuse(const Read& read) {
  try {
    read();
  } catch (const Error&) {
  }
}

/// Reads every byte, so that the sanitizer sees a view that leads outside its file.
inline void touch(const std::byte* data, size_t size) {
  unsigned sum = 0;
  for (size_t i = 0; i < size; ++i) sum += std::to_integer<unsigned>(data[i]);
  volatile unsigned kept = sum;
  (void)kept;
}

}  // namespace tigon::fuzz
