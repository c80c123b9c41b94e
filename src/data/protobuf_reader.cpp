#include "data/protobuf_reader.h"

namespace tigon {

std::optional<uint64_t> ProtobufReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

std::optional<std::string_view> ProtobufReader::take(uint64_t size) {
  if (size > rest_.size()) return std::nullopt;
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

std::optional<ProtobufField> ProtobufReader::next() {
  if (rest_.empty() || is_malformed_) return std::nullopt;
  // Until the field is whole.
  is_malformed_ = true;
  const std::optional<uint64_t> tag = varint();
  if (!tag || *tag >> 32 != 0 || *tag >> 3 == 0) return std::nullopt;
  ProtobufField field;
  field.number = static_cast<uint32_t>(*tag >> 3);
  field.wire_type = static_cast<uint32_t>(*tag & 7);
  std::optional<std::string_view> bytes;
  if (field.wire_type == 0 || field.wire_type == 2) {
    const std::optional<uint64_t> value = varint();
    if (!value) return std::nullopt;
    field.varint = *value;
    bytes = field.wire_type == 2 ? take(*value) : std::string_view();
  } else if (field.wire_type == 1 || field.wire_type == 5) {
    bytes = take(field.wire_type == 1 ? 8 : 4);
  }
  if (!bytes) return std::nullopt;
  field.bytes = *bytes;
  is_malformed_ = false;
  return field;
}

}  // namespace tigon
