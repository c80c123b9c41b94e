#include "data/bpe/bpe_tokenizer.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "core/error.h"
#include "data/utf8.h"

namespace tigon {
namespace {

// Positions in a text are 32-bit numbers.
constexpr size_t kMaxTextBytes = size_t{1} << 30;
// Longer ones would make looking for added tokens slow.
constexpr size_t kMaxAddedTokenBytes = 4096;

/// Scratch space, lent to one call of encode() at a time; as many as were ever needed at once.
class ScratchPool {
 public:
  std::unique_ptr<BpeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<BpeScratch>();
    std::unique_ptr<BpeScratch> scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<BpeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<BpeScratch>> free_;
};

/// The added tokens to look for in text as written, or in normalized text.
std::vector<AddedToken> tokens_to_find(const BpeTokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> found;
  if (!parts.finds_added_tokens) return found;
  for (AddedToken token : parts.added_tokens) {
    if (token.is_normalized != normalized) continue;
    if (normalized) parts.normalizer.apply(token.content);
    found.push_back(std::move(token));
  }
  return found;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts)
      : parts_(std::move(parts)),
        written_tokens_(tokens_to_find(parts_, false)),
        normalized_tokens_(tokens_to_find(parts_, true)) {
    std::set<std::string> special;
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.is_special) special.insert(token.content);
    }
    // The decoder sees a normalized token as the model would.
    for (AddedToken token : parts_.added_tokens) {
      if (token.is_normalized && parts_.finds_added_tokens) {
        parts_.normalizer.apply(token.content);
      }
      if (!token.content.empty()) parts_.tokens[token.id] = token.content;
    }
    for (const auto& token : parts_.tokens) {
      is_special_.push_back(token && special.contains(*token));
    }
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    if (text.size() > kMaxTextBytes) {
      fail("{}: expected a text of at most {} bytes, found {}", parts_.source_name, kMaxTextBytes,
           text.size());
    }
    if (!is_valid_utf8(text)) return encode(replace_invalid_utf8(text));
    std::unique_ptr<BpeScratch> scratch = pool_.take();
    std::vector<int32_t> ids;
    written_tokens_.for_each_part(text, [&](size_t begin, size_t end, int32_t id) {
      if (id != kNoToken) return ids.push_back(id);
      encode_part(text.substr(begin, end - begin), begin == 0, *scratch, ids);
    });
    pool_.give_back(std::move(scratch));
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::vector<std::string> tokens;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        fail("{}: expected ids from 0 to {}, found {}", parts_.source_name, vocab_size() - 1, id);
      }
      if (!parts_.tokens[id]) fail("{}: id {} has no token", parts_.source_name, id);
      if (!is_special_[id]) tokens.push_back(*parts_.tokens[id]);
    }
    return parts_.decoder.decode(std::move(tokens));
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(parts_.tokens.size()); }
  std::optional<int32_t> bos_id() const override { return parts_.bos_id; }
  std::optional<int32_t> eos_id() const override { return parts_.eos_id; }
  bool adds_bos() const override { return parts_.adds_bos && parts_.bos_id.has_value(); }
  bool may_change_earlier_text(int32_t id) const override {
    return parts_.decodes_fallback_bytes && id >= 0 && id < vocab_size() && parts_.tokens[id] &&
           byte_of_fallback_token(*parts_.tokens[id]) >= 0;
  }
  std::vector<SpecialToken> special_tokens() const override {
    std::vector<SpecialToken> found;
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.is_special) found.push_back({token.content, token.id});
    }
    return found;
  }
  std::optional<int32_t> special_id(std::string_view name) const override {
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.content == name) return token.id;
    }
    return std::nullopt;
  }
  std::string fingerprint() const override { return parts_.fingerprint; }
  std::vector<std::filesystem::path> files() const override { return parts_.files; }

 private:
  /// A stretch between the tokens that are found in text as written.
  void encode_part(std::string_view text, bool is_first, BpeScratch& scratch,
                   std::vector<int32_t>& ids) const {
    std::string normalized;
    if (!parts_.normalizer.is_empty()) {
      normalized = text;
      parts_.normalizer.apply(normalized);
      text = normalized;
    }
    const VisitPiece visit = [&](std::string_view piece, bool) {
      parts_.model->encode(piece, scratch, ids);
    };
    normalized_tokens_.for_each_part(text, [&](size_t begin, size_t end, int32_t id) {
      if (id != kNoToken) return ids.push_back(id);
      parts_.pre_tokenizer.split(text.substr(begin, end - begin), is_first && begin == 0, visit);
    });
  }

  BpeTokenizerParts parts_;
  AddedTokenFinder written_tokens_, normalized_tokens_;
  std::vector<bool> is_special_;  // by id
  mutable ScratchPool pool_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts) {
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

bool set_token(std::vector<std::optional<std::string>>& tokens, int32_t id, std::string token) {
  if (static_cast<size_t>(id) >= tokens.size()) tokens.resize(static_cast<size_t>(id) + 1);
  if (tokens[id] && *tokens[id] != token) return false;
  tokens[id] = std::move(token);
  return true;
}

void place_added_tokens(BpeTokenizerParts& parts) {
  for (const AddedToken& token : parts.added_tokens) {
    if (token.content.size() > kMaxAddedTokenBytes) {
      fail("{}: expected added tokens of at most {} bytes, found {} bytes for id {}",
           parts.source_name, kMaxAddedTokenBytes, token.content.size(), token.id);
    }
    if (!set_token(parts.tokens, token.id, token.content)) {
      fail("{}: added token \"{}\": expected an id of its own, found {}, which is \"{}\"",
           parts.source_name, token.content, token.id, *parts.tokens[token.id]);
    }
  }
}

std::optional<int32_t> named_token_id(const BpeTokenizerParts& parts, const NamedToken& token) {
  if (!token.content) return std::nullopt;
  for (const AddedToken& added : parts.added_tokens) {
    if (added.content == *token.content) return added.id;
  }
  const auto found = std::find(parts.tokens.begin(), parts.tokens.end(), token.content);
  if (found == parts.tokens.end()) {
    fail("{}: the token \"{}\", named as BOS or EOS, is not in the vocabulary", parts.source_name,
         *token.content);
  }
  return static_cast<int32_t>(found - parts.tokens.begin());
}

}  // namespace tigon
