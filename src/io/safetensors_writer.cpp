// write_safetensors and stream_safetensors of io/safetensors.h.
#include <algorithm>
#include <limits>
#include <set>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/json_file.h"
#include "io/safetensors.h"

namespace tigon {

namespace {

size_t tensor_bytes(const TensorSpec& spec, const std::filesystem::path& path) {
  size_t bytes = dtype_bytes(spec.dtype);
  for (const int64_t size : spec.shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) {
      fail("cannot write {}: tensor {} has an impossible shape [{}]", path.string(), spec.name,
           fmt::join(spec.shape, ", "));
    }
  }
  return bytes;
}

std::string header_text(const std::vector<TensorSpec>& specs, const std::filesystem::path& path,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  // A list of pairs, because looking a key up in ordered JSON takes time in proportion to its size.
  std::set<std::string> names = {"__metadata__"};
  auto& entries = header.get_ref<Json::object_t&>();
  size_t position = 0;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) {
      fail("cannot write {}: the tensor name {} is taken", path.string(), spec.name);
    }
    const size_t end = position + tensor_bytes(spec, path);
    entries.push_back({spec.name,
                       {{"dtype", safetensors_name(spec.dtype)},
                        {"shape", spec.shape},
                        {"data_offsets", {position, end}}}});
    position = end;
  }
  // Padded so that the data starts at a multiple of the widest element.
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

std::string length_bytes(uint64_t length) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(length >> shift & 0xff);
  return bytes;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
                       const std::function<TensorView(const std::string& name)>& data,
                       const std::map<std::string, std::string>& metadata) {
  const auto write = [&](const TensorSpec& spec, const ByteSink& sink) {
    const TensorView view = data(spec.name);
    if (view.dtype != spec.dtype || view.shape != spec.shape) {
      fail("cannot write {}: tensor {}: expected {} [{}], found {} [{}]", path.string(), spec.name,
           safetensors_name(spec.dtype), fmt::join(spec.shape, ", "), safetensors_name(view.dtype),
           fmt::join(view.shape, ", "));
    }
    sink(std::span(view.data, view.bytes));
  };
  stream_safetensors(path, specs, write, metadata);
}

void stream_safetensors(
    const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
    const std::function<void(const TensorSpec& spec, const ByteSink& sink)>& write,
    const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> ordered = specs;
  std::stable_sort(ordered.begin(), ordered.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return dtype_bytes(a.dtype) > dtype_bytes(b.dtype);
  });
  const std::string header = header_text(ordered, path, metadata);
  AtomicFile file(path);
  file.write(length_bytes(header.size()));
  file.write(header);
  for (const TensorSpec& spec : ordered) {
    size_t written = 0;
    write(spec, [&](std::span<const std::byte> bytes) {
      file.write(bytes);
      written += bytes.size();
    });
    if (written != tensor_bytes(spec, path)) {
      fail("cannot write {}: tensor {}: expected {} bytes, found {}", path.string(), spec.name,
           tensor_bytes(spec, path), written);
    }
  }
  file.commit();
}

}  // namespace tigon
