// How tokens become text again: the `decoder` of a tokenizer.json.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "data/bpe/regex.h"

namespace tigon {

/// Changes a list of tokens; what all of them give at the end is joined. Safe to call from several
/// threads.
using DecoderStep = std::function<void(std::vector<std::string>& tokens)>;

class TokenDecoder {
 public:
  void add(DecoderStep step) { steps_.push_back(std::move(step)); }
  /// Without any step, tokens are joined by spaces. Valid UTF-8 gives valid UTF-8.
  std::string decode(std::vector<std::string> tokens) const;

 private:
  std::vector<DecoderStep> steps_;
};

/// GPT-2's characters as bytes, all tokens in one; tokens with other characters stay as they are.
/// Invalid UTF-8 becomes U+FFFD (utf8.h).
DecoderStep byte_level_decoder_step();
/// `replacement` as a space; in the first token, with `drops_first`, as nothing.
DecoderStep metaspace_decoder_step(std::string replacement, bool drops_first);
/// In every token, `content` in the place of every match.
DecoderStep replace_decoder_step(Regex regex, std::string content);
/// Neighbouring tokens <0x00> … <0xFF> as the text of their bytes; if that is no valid UTF-8, as
/// one U+FFFD a byte.
DecoderStep byte_fallback_decoder_step();
/// All tokens in one.
DecoderStep fuse_decoder_step();
/// Takes up to `start` times the character `content` off the start of every token, and up to `stop`
/// times off its end.
DecoderStep strip_decoder_step(std::string content, size_t start, size_t stop);

/// The byte that <0xHH> names; −1 for any other token.
int byte_of_fallback_token(std::string_view token);

}  // namespace tigon
