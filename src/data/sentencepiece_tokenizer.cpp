#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <utility>

#include "core/error.h"
#include "data/content_hash.h"
#include "data/sentencepiece_check.h"
#include "data/utf8.h"
#include "io/json_file.h"

namespace tigon {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::filesystem::path path, std::vector<std::filesystem::path> files)
      : path_(std::move(path)), files_(std::move(files)) {
    const std::string model = read_text_file(path_);
    check_sentencepiece_model(model, path_.string());
    const sentencepiece::util::Status status = processor_.LoadFromSerializedProto(model);
    if (!status.ok()) {
      fail("{}: sentencepiece refuses the model: {}", path_.string(), status.error_message());
    }
    fingerprint_ = "sentencepiece-" + ContentHash().add(model).hex();
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int> ids;
    // sentencepiece would put one U+FFFD per invalid byte; Python's callers replace stretches.
    const sentencepiece::util::Status status =
        is_valid_utf8(text) ? processor_.Encode(text, &ids)
                            : processor_.Encode(replace_invalid_utf8(text), &ids);
    if (!status.ok()) {
      fail("{}: a text of {} bytes cannot be tokenized: {}", path_.string(), text.size(),
           status.error_message());
    }
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        fail("{}: expected ids from 0 to {}, found {}", path_.string(), vocab_size() - 1, id);
      }
    }
    std::string text;
    const sentencepiece::util::Status status =
        processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    if (!status.ok()) {
      fail("{}: {} ids cannot be decoded: {}", path_.string(), ids.size(), status.error_message());
    }
    return text;
  }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  std::optional<int32_t> bos_id() const override { return present(processor_.bos_id()); }
  std::optional<int32_t> eos_id() const override { return present(processor_.eos_id()); }
  std::string fingerprint() const override { return fingerprint_; }
  std::vector<std::filesystem::path> files() const override { return files_; }

 private:
  static std::optional<int32_t> present(int id) {
    return id < 0 ? std::nullopt : std::optional<int32_t>(id);
  }

  std::filesystem::path path_;
  std::vector<std::filesystem::path> files_;
  sentencepiece::SentencePieceProcessor processor_;
  std::string fingerprint_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& model,
                                              std::vector<std::filesystem::path> companions) {
  companions.insert(companions.begin(), model);
  return std::make_unique<SentencePieceTokenizer>(model, std::move(companions));
}

}  // namespace tigon
