#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <utility>

#include "core/error.h"
#include "data/content_hash.h"
#include "data/sentencepiece_check.h"
#include "data/sentencepiece_special.h"
#include "data/sentencepiece_split.h"
#include "data/utf8.h"
#include "io/json_file.h"

namespace tigon {
namespace {

// Small enough for the library's tables to stay in a core's cache.
constexpr size_t kMinPartBytes = size_t{1} << 12;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& model, std::string source_name,
                         std::vector<std::filesystem::path> files)
      : source_name_(std::move(source_name)), files_(std::move(files)) {
    check_sentencepiece_model(model, source_name_);
    const sentencepiece::util::Status status = processor_.LoadFromSerializedProto(model);
    if (!status.ok()) {
      fail("{}: sentencepiece refuses the model: {}", source_name_, status.error_message());
    }
    is_splittable_ = can_split_at_spaces(model);
    special_pieces_ = special_pieces(model);
    fingerprint_ = "sentencepiece-" + ContentHash().add(model).hex();
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    // sentencepiece would put one U+FFFD per invalid byte; Python's callers replace stretches.
    if (!is_valid_utf8(text)) return encode(replace_invalid_utf8(text));
    if (!is_splittable_) return encode_part(text);
    std::vector<int32_t> ids;
    while (true) {
      const size_t size = first_part(text, kMinPartBytes);
      const std::vector<int32_t> part = encode_part(text.substr(0, size));
      ids.insert(ids.end(), part.begin(), part.end());
      if (size == text.size()) return ids;
      // The space at the cut goes too: the library puts one before every text.
      text.remove_prefix(size + 1);
    }
  }

  std::string decode(std::span<const int32_t> ids) const override {
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        fail("{}: expected ids from 0 to {}, found {}", source_name_, vocab_size() - 1, id);
      }
    }
    std::string text;
    const sentencepiece::util::Status status =
        processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    if (!status.ok()) {
      fail("{}: {} ids cannot be decoded: {}", source_name_, ids.size(), status.error_message());
    }
    return text;
  }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  std::optional<int32_t> bos_id() const override { return present(processor_.bos_id()); }
  std::optional<int32_t> eos_id() const override { return present(processor_.eos_id()); }
  std::vector<SpecialToken> special_tokens() const override {
    std::vector<SpecialToken> found;
    for (int32_t id = 0; id < processor_.GetPieceSize(); ++id) {
      if (processor_.IsControl(id)) found.push_back({processor_.IdToPiece(id), id});
    }
    return found;
  }
  std::optional<int32_t> special_id(std::string_view name) const override {
    const auto found = special_pieces_.find(name);
    return found == special_pieces_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string fingerprint() const override { return fingerprint_; }
  std::vector<std::filesystem::path> files() const override { return files_; }

 private:
  std::vector<int32_t> encode_part(std::string_view text) const {
    std::vector<int> ids;
    const sentencepiece::util::Status status = processor_.Encode(text, &ids);
    if (!status.ok()) {
      fail("{}: a text of {} bytes cannot be tokenized: {}", source_name_, text.size(),
           status.error_message());
    }
    return ids;
  }

  static std::optional<int32_t> present(int id) {
    return id < 0 ? std::nullopt : std::optional<int32_t>(id);
  }

  std::string source_name_;
  std::vector<std::filesystem::path> files_;
  sentencepiece::SentencePieceProcessor processor_;
  std::string fingerprint_;
  bool is_splittable_ = false;
  std::map<std::string, int32_t, std::less<>> special_pieces_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& model,
                                              std::vector<std::filesystem::path> companions) {
  companions.insert(companions.begin(), model);
  return load_sentencepiece_model(read_text_file(model), model.string(), std::move(companions));
}

std::unique_ptr<Tokenizer> load_sentencepiece_model(const std::string& model,
                                                    const std::string& source_name,
                                                    std::vector<std::filesystem::path> files) {
  return std::make_unique<SentencePieceTokenizer>(model, source_name, std::move(files));
}

}  // namespace tigon
