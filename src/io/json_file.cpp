#include "io/json_file.h"

#include <set>
#include <vector>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/mapped_file.h"

namespace tigon {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxKeys = 20000;

/// Watches the parser: refuses deep nesting, repeated keys and huge objects before they are built.
class Watcher {
 public:
  explicit Watcher(const std::string& source_name) : source_name_(source_name) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        check_depth(depth);
        open_objects_.emplace_back();
        break;
      case Json::parse_event_t::array_start:
        check_depth(depth);
        break;
      case Json::parse_event_t::object_end:
        open_objects_.pop_back();
        break;
      case Json::parse_event_t::key:
        add_key(parsed.get_ref<const std::string&>());
        break;
      default:
        break;
    }
    return true;
  }

 private:
  /// `depth` is the number of objects and lists around a new one.
  void check_depth(int depth) {
    if (depth >= kMaxDepth) fail("{}: JSON nested deeper than {} levels", source_name_, kMaxDepth);
  }

  void add_key(const std::string& key) {
    std::set<std::string>& keys = open_objects_.back();
    if (!keys.insert(key).second) fail("{}: key \"{}\" appears twice", source_name_, key);
    if (keys.size() > kMaxKeys) {
      fail("{}: an object of more than {} keys", source_name_, kMaxKeys);
    }
  }

  const std::string& source_name_;
  std::vector<std::set<std::string>> open_objects_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& source_name) {
  try {
    Watcher watcher(source_name);
    return Json::parse(text, [&](int depth, Json::parse_event_t event, Json& parsed) {
      return watcher(depth, event, parsed);
    });
  } catch (const nlohmann::json::exception& exception) {
    fail("{}: not valid JSON: {}", source_name, exception.what());
  }
}

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes) {
    fail("{}: expected at most {} bytes, found {}", path.string(), max_bytes, bytes.size());
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Json read_json_file(const std::filesystem::path& path, size_t max_bytes) {
  return parse_json(read_text_file(path, max_bytes), path.string());
}

void write_json_file(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

}  // namespace tigon
