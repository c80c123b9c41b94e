// The tokenizer that tiktoken files, vocab.json + merges.txt and tokenizer.json are read into.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/bpe/added_tokens.h"
#include "data/bpe/bpe_model.h"
#include "data/bpe/normalizer.h"
#include "data/bpe/pre_tokenizer.h"
#include "data/bpe/token_decoder.h"
#include "data/bpe/tokenizer_folder.h"
#include "data/tokenizer.h"

namespace tigon {

/// What the loaders put together. Text goes through the parts in this order.
struct BpeTokenizerParts {
  std::string source_name;  // for messages
  std::vector<AddedToken> added_tokens;
  // Whether encode() recognises added tokens in text; otherwise their names are text like any.
  bool finds_added_tokens = true;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<BpeModel> model;
  TokenDecoder decoder;
  // The decoder turns <0xHH> into bytes (byte_fallback_decoder_step).
  bool decodes_fallback_bytes = false;
  // By id, as the decoder wants them; nothing where an id has no token.
  std::vector<std::optional<std::string>> tokens;
  std::optional<int32_t> bos_id, eos_id;
  bool adds_bos = false;
  std::string fingerprint;
  std::vector<std::filesystem::path> files;
};

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts);

/// Puts a token at its id in `tokens`, which grows as needed; false if another one is there.
bool set_token(std::vector<std::optional<std::string>>& tokens, int32_t id, std::string token);

/// Puts the added tokens at their ids in `parts.tokens`. Throws Error if another token is there,
/// or one is longer than 4,096 bytes.
void place_added_tokens(BpeTokenizerParts& parts);

/// The id of the token that a folder names as BOS or EOS; `parts` have their tokens already. Throws
/// Error if the token does not exist.
std::optional<int32_t> named_token_id(const BpeTokenizerParts& parts, const NamedToken& token);

}  // namespace tigon
