#include "data/bpe/token_decoder.h"

#include <charconv>

#include "data/bpe/byte_characters.h"
#include "data/bpe/normalizer.h"
#include "data/utf8.h"

namespace tigon {
namespace {

std::string joined(const std::vector<std::string>& tokens, std::string_view separator = "") {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) text += separator;
    text += tokens[i];
  }
  return text;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  while (true) {
    const size_t found = text.find(from);
    result.append(text.substr(0, found));
    if (found == std::string_view::npos) return result;
    result.append(to);
    text.remove_prefix(found + from.size());
  }
}

}  // namespace

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  if (steps_.empty()) return joined(tokens, " ");
  for (const DecoderStep& step : steps_) step(tokens);
  return joined(tokens);
}

DecoderStep byte_level_decoder_step() {
  return [](std::vector<std::string>& tokens) {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of_characters(token).value_or(token);
    tokens = {replace_invalid_utf8(bytes)};
  };
}

DecoderStep metaspace_decoder_step(std::string replacement, bool drops_first) {
  return [replacement = std::move(replacement), drops_first](std::vector<std::string>& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], replacement, i == 0 && drops_first ? "" : " ");
    }
  };
}

DecoderStep replace_decoder_step(Regex regex, std::string content) {
  return
      [regex = std::move(regex), content = std::move(content)](std::vector<std::string>& tokens) {
        for (std::string& token : tokens) token = replace_matches(token, regex, content);
      };
}

int byte_of_fallback_token(std::string_view token) {
  constexpr std::string_view kBegin = "<0x";
  if (token.size() != 6 || !token.starts_with(kBegin) || token.back() != '>') return -1;
  int byte = -1;
  const char* const end = token.data() + 5;
  const auto [stop, code] = std::from_chars(token.data() + kBegin.size(), end, byte, 16);
  return code == std::errc() && stop == end && byte >= 0 ? byte : -1;
}

DecoderStep byte_fallback_decoder_step() {
  return [](std::vector<std::string>& tokens) {
    std::vector<std::string> result;
    std::string bytes;
    const auto flush = [&] {
      if (is_valid_utf8(bytes)) {
        if (!bytes.empty()) result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      const int byte = byte_of_fallback_token(token);
      if (byte >= 0) {
        bytes += static_cast<char>(byte);
      } else {
        flush();
        result.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(result);
  };
}

DecoderStep fuse_decoder_step() {
  return [](std::vector<std::string>& tokens) { tokens = {joined(tokens)}; };
}

DecoderStep strip_decoder_step(std::string content, size_t start, size_t stop) {
  return [content = std::move(content), start, stop](std::vector<std::string>& tokens) {
    for (std::string& token : tokens) {
      std::string_view text = token;
      for (size_t i = 0; i < start && text.starts_with(content); ++i) {
        text.remove_prefix(content.size());
      }
      for (size_t i = 0; i < stop && text.ends_with(content); ++i) {
        text.remove_suffix(content.size());
      }
      token = std::string(text);
    }
  };
}

}  // namespace tigon
