// Text to token ids and back. No Torch here.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tigon {

/// A token that controls and has no text, such as <s> or <|im_start|>.
struct SpecialToken {
  std::string content;
  int32_t id = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of the text alone: no BOS, no EOS. Invalid UTF-8 becomes U+FFFD first. Safe to call from
  /// several threads at once. Names of special tokens in the text are text for sentencepiece and
  /// tiktoken files; tokenizer.json and vocab.json + merges.txt take them (and other added tokens)
  /// for the tokens, as the tokenizers package does.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  /// Valid UTF-8; special tokens have no text. Throws Error for an id that is not in the
  /// vocabulary.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  /// All ids are below it.
  virtual int64_t vocab_size() const = 0;
  /// The tokens that begin and end a text, where the tokenizer names them.
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual std::optional<int32_t> eos_id() const = 0;
  /// Whether a prompt begins with BOS: Qwen and GPT-2 have prompts without.
  virtual bool adds_bos() const { return bos_id().has_value(); }
  /// By id.
  virtual std::vector<SpecialToken> special_tokens() const { return {}; }
  /// Whether the ids behind this one decide how it and those before are decoded: bytes of a
  /// tokenizer.json with ByteFallback count as text only if all in a row are valid together.
  virtual bool may_change_earlier_text(int32_t id) const { return false; }
  /// The id of a special token by its name ("<|im_end|>"); nullopt if the vocabulary has none.
  virtual std::optional<int32_t> special_id(std::string_view /*name*/) const {
    return std::nullopt;
  }
  /// A hash of everything that decides the ids; part of a token shard's key.
  virtual std::string fingerprint() const = 0;
  /// The files a Hugging Face folder needs so that others tokenize alike.
  virtual std::vector<std::filesystem::path> files() const = 0;
};

/// Opens a tokenizer file, or the one in a model folder: tokenizer.model (sentencepiece, or Llama
/// 3's tiktoken file, by its content), else tokenizer.json, else vocab.json + merges.txt. What the
/// files beside it say (tokenizer_config.json and others) counts when a folder is opened. Throws
/// Error naming path, expected and found, for what a file asks and tigon does not know as well.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder_or_file);

/// Turns ids that arrive one by one into text that never ends inside a character.
class StreamDecoder {
 public:
  /// The tokenizer must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// The text that became complete with this id (may be empty).
  std::string push(int32_t id);
  /// Whatever is left, incomplete characters as U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;  // the latest, with enough of a context
  size_t emitted_ = 0;        // how many bytes of their text were handed out
};

}  // namespace tigon
