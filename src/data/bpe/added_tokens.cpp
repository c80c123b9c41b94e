#include "data/bpe/added_tokens.h"

#include <algorithm>

#include "data/bpe/unicode_classes.h"
#include "data/bpe/vocabulary.h"
#include "data/utf8.h"

namespace tigon {
namespace {

bool stands_beside_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word_character(last_character(text.substr(0, begin)))) return true;
  std::string_view behind = text.substr(end);
  return !behind.empty() && is_word_character(take_character(behind));
}

/// Where the white space before `end` begins, at `low` or later.
size_t white_space_begin(std::string_view text, size_t low, size_t end) {
  while (end > low) {
    const std::string_view before = text.substr(0, end);
    const char32_t character = last_character(before);
    if (!is_white_space(character)) break;
    std::string encoded;
    append_utf8(character, encoded);
    end -= encoded.size();
  }
  return end;
}

/// Where the white space from `begin` on ends.
size_t white_space_end(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    std::string_view rest = text.substr(begin);
    if (!is_white_space(take_character(rest))) break;
    begin = text.size() - rest.size();
  }
  return begin;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens)
    : tokens_(tokens), token_of_node_{-1}, begins_token_(256, false) {
  for (size_t index = 0; index < tokens_.size(); ++index) {
    const std::string& content = tokens_[index].content;
    if (content.empty()) continue;
    begins_token_[static_cast<unsigned char>(content[0])] = true;
    uint32_t node = 0;
    for (const unsigned char byte : content) {
      const auto [child, is_new] = children_.try_emplace(
          uint64_t{node} << 8 | byte, static_cast<uint32_t>(token_of_node_.size()));
      if (is_new) token_of_node_.push_back(-1);
      node = child->second;
    }
    if (token_of_node_[node] < 0) token_of_node_[node] = static_cast<int32_t>(index);
  }
}

int32_t AddedTokenFinder::longest_at(std::string_view text, size_t position) const {
  if (!begins_token_[static_cast<unsigned char>(text[position])]) return -1;
  int32_t longest = -1;
  uint32_t node = 0;
  for (; position < text.size(); ++position) {
    const auto child =
        children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[position]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_of_node_[node] >= 0) longest = token_of_node_[node];
  }
  return longest;
}

void AddedTokenFinder::for_each_part(std::string_view text, const Visit& visit) const {
  size_t covered = 0;
  size_t position = children_.empty() ? text.size() : 0;
  while (position < text.size()) {
    const int32_t found = longest_at(text, position);
    if (found < 0) {
      ++position;
      continue;
    }
    const AddedToken& token = tokens_[found];
    size_t begin = position, end = position + token.content.size();
    position = end;
    if (token.is_single_word && stands_beside_word(text, begin, end)) continue;
    // White space that the token before has taken stays there.
    if (token.takes_left) begin = white_space_begin(text, std::min(covered, begin), begin);
    if (token.takes_right) end = white_space_end(text, end);
    if (covered < begin) visit(covered, begin, kNoToken);
    visit(begin, end, token.id);
    covered = end;
  }
  if (covered < text.size()) visit(covered, text.size(), kNoToken);
}

}  // namespace tigon
