#include "io/safetensors.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "io/safetensors_header.h"

namespace tigon {

namespace {

constexpr size_t kLengthBytes = 8;
// The bound of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

uint64_t read_header_length(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < kLengthBytes) {
    fail(
        "{}: expected at least {} bytes (the header's length), found {}: the file is truncated or "
        "not safetensors",
        name, kLengthBytes, bytes.size());
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    fail("{}: expected a header of at most {} bytes, found a length of {}: not a safetensors file",
         name, kMaxHeaderBytes, length);
  }
  if (length > bytes.size() - kLengthBytes) {
    fail("{}: expected a header of {} bytes, found {} bytes in the file: the file is truncated",
         name, length, bytes.size() - kLengthBytes);
  }
  return length;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Bytes that dtype and shape call for; refuses what does not fit into 63 bits.
uint64_t expected_bytes(const HeaderEntry& entry, DType dtype, const std::string& file_name) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  uint64_t count = dtype_bytes(dtype);
  for (const uint64_t size : entry.shape) {
    if (size > kMax || (size != 0 && count > kMax / size)) {
      fail("{}: tensor {}: shape {} is impossibly large", file_name, entry.name,
           shape_text(entry.shape));
    }
    count *= size;
  }
  return count;
}

TensorView check_entry(const HeaderEntry& entry, std::span<const std::byte> data,
                       const std::string& file_name) {
  const std::optional<DType> dtype = dtype_from_safetensors(entry.dtype);
  if (!dtype) {
    fail(
        "{}: tensor {}: element type \"{}\" is not supported (F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U8 and BOOL are)",
        file_name, entry.name, entry.dtype);
  }
  if (entry.begin > entry.end || entry.end > data.size()) {
    fail(
        "{}: tensor {}: expected its bytes inside the {} bytes of data, found {} to {}: the file "
        "is truncated or its header lies",
        file_name, entry.name, data.size(), entry.begin, entry.end);
  }
  const uint64_t expected = expected_bytes(entry, *dtype, file_name);
  if (entry.end - entry.begin != expected) {
    fail("{}: tensor {}: {} {} needs {} bytes, found {}", file_name, entry.name, entry.dtype,
         shape_text(entry.shape), expected, entry.end - entry.begin);
  }
  return {.dtype = *dtype,
          .shape = {entry.shape.begin(), entry.shape.end()},
          .data = data.data() + entry.begin,
          .bytes = expected};
}

/// The format allows neither holes nor overlaps: data could hide in one, and tensors alias in the
/// other.
void check_layout(std::vector<HeaderEntry>& entries, size_t data_bytes,
                  const std::string& file_name) {
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != position) {
      fail("{}: tensor {}: expected its bytes to start at {}, found {}: the header describes {}",
           file_name, entry.name, position, entry.begin,
           entry.begin < position ? "overlapping tensors" : "a hole between tensors");
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    fail("{}: the header describes {} bytes of data, found {}", file_name, position, data_bytes);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<MappedFile>(path)), name_(path.string()) {
  parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, const std::string& name)
    : name_(name) {
  parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  const uint64_t header_bytes = read_header_length(bytes, name_);
  const auto header = bytes.subspan(kLengthBytes, header_bytes);
  const auto data = bytes.subspan(kLengthBytes + header_bytes);
  SafetensorsHeader parsed = parse_safetensors_header(
      {reinterpret_cast<const char*>(header.data()), header.size()}, name_);
  for (const HeaderEntry& entry : parsed.entries) {
    tensors_.emplace(entry.name, check_entry(entry, data, name_));
  }
  check_layout(parsed.entries, data.size(), name_);
  metadata_ = std::move(parsed.metadata);
}

const TensorView* SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const TensorView& SafetensorsFile::at(const std::string& name) const {
  const TensorView* const view = find(name);
  if (view == nullptr) fail("{}: tensor {} is missing", name_, name);
  return *view;
}

}  // namespace tigon
