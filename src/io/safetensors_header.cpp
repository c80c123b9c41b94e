#include "io/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/error.h"

namespace tigon {

namespace {

constexpr size_t kMaxDimensions = 16;

/// Receives the parser's events; `place_` says where in the one allowed form it is:
///   {"__metadata__": {"key": "text"}, "NAME": {"dtype": "F32", "shape": [2], "data_offsets": [0,
///   8]}}
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& file_name) : file_name_(file_name) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_float(double, const std::string& text) override { unexpected(text); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_integer(int64_t value) override { unexpected(std::to_string(value)); }

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::kShape) {
      if (entry_.shape.size() == kMaxDimensions) {
        fail("{}: {} has more than {} dimensions", file_name_, entry_.name, kMaxDimensions);
      }
      entry_.shape.push_back(value);
    } else if (place_ == Place::kOffsets) {
      offsets_.push_back(value);
      if (offsets_.size() > 2) unexpected("a third offset");
    } else {
      unexpected(std::to_string(value));
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = value;
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      entry_.dtype = value;
    } else {
      unexpected("\"" + value + "\"");
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kRoot;
    } else if (place_ == Place::kRoot && key_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kRoot) {
      place_ = Place::kTensor;
      entry_ = {};
      entry_.name = key_;
    } else {
      unexpected("an object");
    }
    inner_keys_.clear();
    return true;
  }

  bool key(std::string& value) override {
    std::set<std::string>& seen = place_ == Place::kRoot ? root_keys_ : inner_keys_;
    if (!seen.insert(value).second) {
      fail("{}: \"{}\" appears twice in the header", file_name_, value);
    }
    const bool is_known = value == "dtype" || value == "shape" || value == "data_offsets";
    if (place_ == Place::kTensor && !is_known) {
      fail("{}: tensor {}: unknown key \"{}\" in the header", file_name_, entry_.name, value);
    }
    key_ = value;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        if (!inner_keys_.contains(needed)) {
          fail("{}: tensor {} has no \"{}\" in the header", file_name_, entry_.name, needed);
        }
      }
      header_.entries.push_back(std::move(entry_));
    }
    place_ = Place::kRoot;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") unexpected("a list");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    offsets_.clear();
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets) {
      if (offsets_.size() != 2) unexpected("a list of " + std::to_string(offsets_.size()));
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail("{}: the header is not valid JSON: {}", file_name_, error.what());
  }

 private:
  enum class Place { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] void unexpected(const std::string& found) const {
    switch (place_) {
      case Place::kStart:
        fail("{}: expected the header to be an object, found {}", file_name_, found);
      case Place::kRoot:
        fail("{}: header key \"{}\": expected an object, found {}", file_name_, key_, found);
      case Place::kMetadata:
        fail("{}: metadata \"{}\": expected text, found {}", file_name_, key_, found);
      case Place::kTensor:
        fail("{}: tensor {}: \"{}\": expected {}, found {}", file_name_, entry_.name, key_,
             key_ == "dtype" ? "a name" : "a list of integers", found);
      case Place::kShape:
        fail("{}: tensor {}: \"shape\": expected integers ≥ 0, found {}", file_name_, entry_.name,
             found);
      case Place::kOffsets:
        break;
    }
    fail("{}: tensor {}: \"data_offsets\": expected two integers ≥ 0, found {}", file_name_,
         entry_.name, found);
  }

  const std::string& file_name_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  std::string key_;
  std::set<std::string> root_keys_, inner_keys_;
  HeaderEntry entry_;
  std::vector<uint64_t> offsets_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& file_name) {
  if (json.empty() || json.front() != '{') {
    fail("{}: expected a header that starts with '{{'; this is not a safetensors file", file_name);
  }
  HeaderReader reader(file_name);
  nlohmann::json::sax_parse(json, &reader);
  return reader.take();
}

}  // namespace tigon
