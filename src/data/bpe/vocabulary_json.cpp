#include "data/bpe/vocabulary_json.h"

#include <algorithm>

#include "core/error.h"
#include "data/bpe/vocabulary.h"

namespace tigon {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxKeys = 5000;
constexpr size_t kMaxMerges = size_t{1} << 23;

/// Receives the parts of a JSON text as the parser meets them. The names of its functions are the
/// parser's.
class Handler {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  /// `vocabulary_path`, `merges_path`: the keys that lead to them.
  Handler(const std::string& source_name, std::vector<std::string> vocabulary_path,
          std::vector<std::string> merges_path)
      : source_name_(source_name),
        vocabulary_path_(std::move(vocabulary_path)),
        merges_path_(std::move(merges_path)) {}

  VocabularyJson result;

  bool null() { return value(nullptr); }
  bool boolean(bool flag) { return value(flag); }
  bool number_integer(number_integer_t number) { return value(number); }
  bool number_unsigned(number_unsigned_t number) {
    if (place_ != Place::kVocabulary) return value(number);
    if (number >= static_cast<number_unsigned_t>(kMaxTokenIds)) refuse_id(Json(number));
    result.vocabulary.emplace_back(std::move(key_), static_cast<int32_t>(number));
    return true;
  }
  bool number_float(number_float_t number, const string_t&) { return value(number); }
  bool binary(binary_t&) { return false; }
  bool string(string_t& text) {
    if (place_ == Place::kMerges) {
      // The first lines of a merges.txt may have found their way here.
      if (!text.starts_with("#version")) {
        add_merge(split_merge(text, result.merges.size() + 1, source_name_));
      }
      return true;
    }
    if (place_ == Place::kMergePair) {
      if (pair_.size() == 2) refuse_merge("more");
      pair_.push_back(std::move(text));
      return true;
    }
    return value(std::move(text));
  }

  bool start_object(size_t) {
    if (place_ == Place::kSkipped) return open_skipped();
    if (place_ != Place::kRest) refuse_other("an object");
    if (path_ == vocabulary_path_) {
      place_ = Place::kVocabulary;
      return true;
    }
    if (path_ == merges_path_) return open_skipped();
    return open(Json::object());
  }
  bool key(string_t& name) {
    if (place_ == Place::kSkipped) return true;
    key_ = std::move(name);
    if (place_ == Place::kRest) path_.back() = key_;
    return true;
  }
  bool end_object() {
    if (place_ == Place::kSkipped) return close_skipped();
    if (place_ == Place::kVocabulary) {
      place_ = Place::kRest;
      return true;
    }
    return close();
  }

  bool start_array(size_t) {
    if (place_ == Place::kSkipped) return open_skipped();
    if (place_ == Place::kMerges) {
      place_ = Place::kMergePair;
      pair_.clear();
      return true;
    }
    if (place_ != Place::kRest) refuse_other("a list");
    if (path_ == merges_path_ && !merges_path_.empty()) {
      place_ = Place::kMerges;
      return true;
    }
    if (path_ == vocabulary_path_ && !path_.empty()) return open_skipped();
    return open(Json::array());
  }
  bool end_array() {
    if (place_ == Place::kSkipped) return close_skipped();
    if (place_ == Place::kMergePair) {
      if (pair_.size() != 2) refuse_merge("fewer");
      add_merge({std::move(pair_[0]), std::move(pair_[1])});
      place_ = Place::kMerges;
      return true;
    }
    if (place_ == Place::kMerges) {
      place_ = Place::kRest;
      return true;
    }
    return close();
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& exception) {
    fail("{}: not valid JSON: {}", source_name_, exception.what());
  }

 private:
  enum class Place { kRest, kVocabulary, kMerges, kMergePair, kSkipped };

  [[noreturn]] void refuse_id(const Json& found) const {
    fail("{}: vocabulary: expected an id from 0 to {} for \"{}\", found {}", source_name_,
         kMaxTokenIds - 1, key_, found.dump());
  }
  [[noreturn]] void refuse_merge(std::string_view found) const {
    fail("{}: merge {}: expected two texts, found {}", source_name_, result.merges.size() + 1,
         found);
  }
  [[noreturn]] void refuse_other(const std::string& found) const {
    if (place_ != Place::kVocabulary) refuse_merge(found);
    fail("{}: vocabulary: expected an id for \"{}\", found {}", source_name_, key_, found);
  }

  void add_merge(std::pair<std::string, std::string> merge) {
    if (result.merges.size() == kMaxMerges) fail("{}: over {} merges", source_name_, kMaxMerges);
    result.merges.push_back(std::move(merge));
  }

  template <class Value>
  bool value(Value&& found) {
    if (place_ == Place::kSkipped) return true;
    if (place_ == Place::kVocabulary) refuse_id(Json(std::forward<Value>(found)));
    if (place_ != Place::kRest) refuse_merge("another value");
    add(Json(std::forward<Value>(found)));
    return true;
  }

  /// Puts a value where it belongs and returns its place.
  Json& add(Json found) {
    if (open_.empty()) return result.rest = std::move(found);
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(found));
      return parent.back();
    }
    if (parent.contains(key_)) fail("{}: key \"{}\" appears twice", source_name_, key_);
    if (parent.size() == kMaxKeys) {
      fail("{}: an object of more than {} keys", source_name_, kMaxKeys);
    }
    return parent[key_] = std::move(found);
  }

  bool open(Json container) {
    if (open_.size() == kMaxDepth) {
      fail("{}: JSON nested deeper than {} levels", source_name_, kMaxDepth);
    }
    Json& place = add(std::move(container));
    open_.push_back(&place);
    path_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    path_.pop_back();
    return true;
  }
  bool open_skipped() {
    place_ = Place::kSkipped;
    ++skipped_depth_;
    return true;
  }
  bool close_skipped() {
    if (--skipped_depth_ == 0) place_ = Place::kRest;
    return true;
  }

  const std::string& source_name_;
  std::vector<std::string> vocabulary_path_, merges_path_;
  Place place_ = Place::kRest;
  std::vector<Json*> open_;        // containers around the next value
  std::vector<std::string> path_;  // the key in each of them; empty in lists
  std::string key_;
  std::vector<std::string> pair_;
  size_t skipped_depth_ = 0;
};

}  // namespace

VocabularyJson parse_tokenizer_json(std::string_view text, const std::string& source_name) {
  Handler handler(source_name, {"model", "vocab"}, {"model", "merges"});
  Json::sax_parse(text, &handler);
  return std::move(handler.result);
}

std::vector<std::pair<std::string, int32_t>> parse_vocabulary_json(std::string_view text,
                                                                   const std::string& source_name) {
  // There is no such path: a vocab.json has no merges.
  Handler handler(source_name, {}, {""});
  Json::sax_parse(text, &handler);
  if (!handler.result.rest.is_null() || handler.result.vocabulary.empty()) {
    fail("{}: expected an object of pieces and ids, found {}", source_name,
         handler.result.rest.is_null() ? "an empty one" : handler.result.rest.type_name());
  }
  return std::move(handler.result.vocabulary);
}

std::pair<std::string, std::string> split_merge(std::string_view line, size_t number,
                                                const std::string& source_name) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    fail("{}: merge {}: expected two pieces with a space between, found \"{}\"", source_name,
         number, line.substr(0, 100));
  }
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

}  // namespace tigon
