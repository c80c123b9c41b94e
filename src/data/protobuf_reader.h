// Fields of a protobuf message, one after another.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tigon {

struct ProtobufField {
  uint32_t number = 0;
  uint32_t wire_type = 0;  // 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes
  uint64_t varint = 0;     // wire type 0
  std::string_view bytes;  // wire types 1, 2 and 5
};

/// Walks the wire format without knowing the message's type. Groups are refused.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  /// The next field; nullopt at the end, or where the message is malformed.
  std::optional<ProtobufField> next();
  bool is_malformed() const { return is_malformed_; }

 private:
  std::optional<uint64_t> varint();
  std::optional<std::string_view> take(uint64_t size);

  std::string_view rest_;
  bool is_malformed_ = false;
};

}  // namespace tigon
