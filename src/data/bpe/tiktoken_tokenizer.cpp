#include "data/bpe/tiktoken_tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/bpe/bpe_tokenizer.h"
#include "data/bpe/byte_characters.h"
#include "data/bpe/tokenizer_folder.h"
#include "data/bpe/vocabulary_json.h"
#include "data/content_hash.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kNumRanks = 128000, kNumSpecial = 256;

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array kFirstNames = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|reserved_special_token_2|>",
                                    "<|reserved_special_token_3|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|reserved_special_token_4|>",
                                    "<|eot_id|>"};

/// −1 for a character that is not one of base64's 64.
int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// The bytes of a base64 text with its padding; nothing for any other text.
std::optional<std::string> base64_bytes(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  text.remove_suffix(padding);
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const int value = base64_value(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    num_bits += 6;
    if (num_bits >= 8) {
      num_bits -= 8;
      bytes += static_cast<char>(bits >> num_bits & 0xFF);
    }
  }
  return bytes;
}

struct RankedToken {
  std::string bytes;
  int32_t rank;
};

/// A line without its end; nothing if it is of another form.
std::optional<RankedToken> parse_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  auto bytes = base64_bytes(line.substr(0, space));
  int32_t rank = -1;
  const char* const end = line.data() + line.size();
  const auto [stop, code] = std::from_chars(line.data() + space + 1, end, rank);
  if (!bytes || bytes->empty() || code != std::errc() || stop != end || rank < 0) {
    return std::nullopt;
  }
  return RankedToken{std::move(*bytes), rank};
}

/// Takes the next line off, without "\n" or "\r\n".
std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// The tokens of the file; also puts their characters at their ids in `tokens`.
Vocabulary read_ranks(std::string_view text, const std::string& name,
                      std::vector<std::optional<std::string>>& tokens) {
  Vocabulary vocabulary;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (line.empty()) continue;
    const auto token = parse_line(line);
    if (!token) {
      fail("{}: line {}: expected base64 and a rank, found \"{}\"", name, number,
           characters_of_bytes(line.substr(0, 100)));
    }
    if (token->rank >= kNumRanks) {
      fail("{}: line {}: expected ranks from 0 to {} (Llama 3), found {}", name, number,
           kNumRanks - 1, token->rank);
    }
    if (!vocabulary.add(token->bytes, token->rank) ||
        !set_token(tokens, token->rank, characters_of_bytes(token->bytes))) {
      fail("{}: line {}: expected tokens and ranks once, found one a second time", name, number);
    }
  }
  if (vocabulary.size() != static_cast<size_t>(kNumRanks)) {
    fail(
        "{}: expected {} tokens (Llama 3; tigon does not know how texts of other tiktoken files "
        "are split), found {}",
        name, kNumRanks, vocabulary.size());
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char single = static_cast<char>(byte);
    if (vocabulary.find({&single, 1}) == kNoToken) {
      fail("{}: expected a token for every byte, found none for 0x{:02X}", name, byte);
    }
  }
  return vocabulary;
}

std::string first_release_name(int32_t index) {
  const auto num_first = static_cast<int32_t>(kFirstNames.size());
  if (index < num_first) return kFirstNames[index];
  // Four reserved ones have gone by.
  return fmt::format("<|reserved_special_token_{}|>", index - num_first + 5);
}

std::vector<AddedToken> special_tokens(const TokenizerFolder& folder, const std::string& name) {
  std::vector<AddedToken> tokens;
  for (int32_t index = 0; index < kNumSpecial; ++index) {
    tokens.push_back(
        {.content = first_release_name(index), .id = kNumRanks + index, .is_special = true});
  }
  if (folder.added_tokens.empty()) return tokens;
  // The folder's names are the whole list, or tokens would go by two names.
  for (AddedToken& token : tokens) token.content.clear();
  for (const AddedToken& token : folder.added_tokens) {
    if (token.id < kNumRanks || token.id >= kNumRanks + kNumSpecial) {
      fail("{}: expected added tokens with ids from {} to {}, found \"{}\" with {}", name,
           kNumRanks, kNumRanks + kNumSpecial - 1, token.content, token.id);
    }
    tokens[token.id - kNumRanks].content = token.content;
  }
  std::erase_if(tokens, [](const AddedToken& token) { return token.content.empty(); });
  return tokens;
}

}  // namespace

bool is_tiktoken(std::string_view text) {
  return parse_line(take_line(text)).has_value();
}

std::unique_ptr<Tokenizer> load_tiktoken(const fs::path& file,
                                         const std::optional<fs::path>& folder) {
  const std::string name = file.string();
  const std::string text = read_text_file(file, kMaxTokenizerBytes);
  TokenizerFolder beside;
  if (folder) beside = read_tokenizer_folder(*folder);
  if (beside.has_own_code) {
    fail("{}: expected Llama 3's tokenizer, found one read by the folder's own Python code", name);
  }
  BpeTokenizerParts parts;
  parts.source_name = name;
  parts.finds_added_tokens = false;
  BpeOptions options;
  options.merges_by_id = true;
  options.takes_whole_pieces = true;
  parts.model =
      std::make_unique<BpeModel>(read_ranks(text, name, parts.tokens), MergeTable(), options);
  parts.pre_tokenizer.add(
      pattern_step(Regex(kLlama3Pattern, name), SplitBehavior::kIsolated, false));
  parts.decoder.add(byte_level_decoder_step());
  parts.added_tokens = special_tokens(beside, name);
  place_added_tokens(parts);
  const auto named_or = [&](const NamedToken& named, const char* usual) {
    return named_token_id(parts, named.is_mentioned ? named : NamedToken{true, usual});
  };
  parts.bos_id = named_or(beside.bos, kFirstNames[0]);
  parts.eos_id = named_or(beside.eos, kFirstNames[1]);
  parts.adds_bos = beside.adds_bos.value_or(true);
  // The folder's names decide what decodes to nothing, not the ids of a text.
  parts.fingerprint = "tiktoken-llama3-" + ContentHash().add(text).hex();
  parts.files = {file};
  parts.files.insert(parts.files.end(), beside.files.begin(), beside.files.end());
  return make_bpe_tokenizer(std::move(parts));
}

}  // namespace tigon
