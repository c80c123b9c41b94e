// safetensors files put together by hand, right or wrong.
#pragma once
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tigon::testing {

/// Length, header and data; `claimed_length` replaces the header's true length.
inline std::string safetensors_bytes(std::string_view header, std::string_view data,
                                     int64_t claimed_length = -1) {
  const uint64_t length =
      claimed_length < 0 ? header.size() : static_cast<uint64_t>(claimed_length);
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(length >> shift & 0xff);
  return bytes.append(header).append(data);
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Floats as a file holds them.
inline std::string float_bytes(std::initializer_list<float> values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

/// A copy of the floats of a view, which need not be aligned.
template <class View>
std::vector<float> floats_of(const View& view) {
  std::vector<float> values(view.bytes / sizeof(float));
  std::memcpy(values.data(), view.data, view.bytes);
  return values;
}

}  // namespace tigon::testing
