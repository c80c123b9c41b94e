// Tokens that are found in a text before the model sees it: special tokens and others that were
// added to a vocabulary.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tigon {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool is_special = false;      // has no text when ids are decoded
  bool is_normalized = false;   // looked for in normalized text, by its normalized content
  bool takes_left = false;      // white space before it belongs to it (lstrip)
  bool takes_right = false;     // white space behind it belongs to it (rstrip)
  bool is_single_word = false;  // not where a word character stands beside it
};

/// Finds tokens in text: at each place the longest, from left to right.
class AddedTokenFinder {
 public:
  /// `tokens`: what to look for, by `content`; empty contents are not looked for.
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  /// Calls visit for the stretches of valid UTF-8 between tokens (with kNoToken) and for the tokens
  /// (with their id), in order; stretches are not empty. Time grows with the length of the text.
  using Visit = std::function<void(size_t begin, size_t end, int32_t id)>;
  void for_each_part(std::string_view text, const Visit& visit) const;

 private:
  /// The token that begins at a position, as an index into tokens_; −1: none.
  int32_t longest_at(std::string_view text, size_t position) const;

  std::vector<AddedToken> tokens_;
  // A trie: (node << 8 | byte) to node; node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> token_of_node_;  // index into tokens_, −1: none ends here
  std::vector<bool> begins_token_;      // [256]
};

}  // namespace tigon
