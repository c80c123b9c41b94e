#include "train/tensorboard_events.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

#include "core/error.h"

namespace tigon {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  constexpr uint32_t kReversedPolynomial = 0x82F63B78;
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? kReversedPolynomial : 0);
    table[byte] = value;
  }
  return table;
}

/// The little-endian bytes of a number.
template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// Protobuf: a field is a key (number << 3 | wire type) and its value.
enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<char>(value | 128));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string key(uint64_t field, WireType type) {
  return varint(field << 3 | type);
}
std::string varint_field(uint64_t field, uint64_t value) {
  return key(field, kVarint) + varint(value);
}
std::string double_field(uint64_t field, double value) {
  return key(field, kFixed64) + bytes_of(value);
}
std::string float_field(uint64_t field, float value) {
  return key(field, kFixed32) + bytes_of(value);
}
std::string bytes_field(uint64_t field, std::string_view value) {
  return key(field, kLength) + varint(value.size()) + std::string(value);
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event: wall_time = 1, step = 2, then one of file_version = 3, summary = 5, session_log = 7.
std::string event(int64_t step, const std::string& what) {
  return double_field(1, wall_time()) + varint_field(2, static_cast<uint64_t>(step)) + what;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "host";
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 255];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
}

TensorBoardEvents::TensorBoardEvents(const std::filesystem::path& folder, int64_t first_step)
    : path_(folder /
            fmt::format("events.out.tfevents.{:.0f}.{}.{}", wall_time(), host_name(), getpid())),
      file_(path_, std::ios::binary | std::ios::app) {
  write_record(event(0, bytes_field(3, "brain.Event:2")));
  constexpr uint64_t kStart = 1;
  write_record(event(first_step, bytes_field(7, varint_field(1, kStart))));
  flush();
}

void TensorBoardEvents::scalar(std::string_view tag, int64_t step, float value) {
  // Summary: value = 1; Value: tag = 1, simple_value = 2.
  const std::string summary = bytes_field(1, bytes_field(1, tag) + float_field(2, value));
  write_record(event(step, bytes_field(5, summary)));
}

void TensorBoardEvents::write_record(const std::string& event) {
  const std::string length = bytes_of(static_cast<uint64_t>(event.size()));
  file_ << length << bytes_of(masked_crc32c(length)) << event << bytes_of(masked_crc32c(event));
}

void TensorBoardEvents::flush() {
  file_.flush();
  if (!file_) fail("{}: cannot write (is the disk full?)", path_.string());
}

}  // namespace tigon
