// How a text is cut into the pieces that the model sees: the `pre_tokenizer` of a tokenizer.json.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/bpe/regex.h"

namespace tigon {

/// A piece of valid UTF-8, and whether it begins where the whole text began. Valid during the call.
using VisitPiece = std::function<void(std::string_view piece, bool is_first)>;
/// Cuts a piece further. Safe to call from several threads.
using SplitStep =
    std::function<void(std::string_view piece, bool is_first, const VisitPiece& visit)>;

class PreTokenizer {
 public:
  /// Throws Error for more than 100 steps: each is a call inside the one before.
  void add(SplitStep step);

  /// Calls visit for every piece that is not empty.
  void split(std::string_view text, bool is_first, const VisitPiece& visit) const;

 private:
  void split_from(size_t step, std::string_view piece, bool is_first,
                  const VisitPiece& visit) const;

  std::vector<SplitStep> steps_;
};

/// What becomes of the matches of a pattern.
enum class SplitBehavior {
  kIsolated,            // a piece each
  kRemoved,             // left out
  kMergedWithPrevious,  // the end of the stretch before
  kMergedWithNext,      // the beginning of the stretch behind
  kContiguous,          // neighbouring matches are one piece
};

/// With `invert`, the stretches between matches count as the matches.
SplitStep pattern_step(Regex regex, SplitBehavior behavior, bool invert);
/// Puts a space before a piece that has none.
SplitStep prefix_space_step();
/// Writes bytes as GPT-2's characters (byte_characters.h), for steps that come after ByteLevel.
SplitStep byte_characters_step();
/// Reads GPT-2's characters as bytes again: the pieces are then bytes, not UTF-8.
SplitStep bytes_step();

enum class PrependScheme { kAlways, kFirst, kNever };
/// sentencepiece's way: spaces become `replacement`, which is also put before the piece (before the
/// first one, never), and with `split` a piece begins at each.
SplitStep metaspace_step(std::string replacement, PrependScheme scheme, bool split);

}  // namespace tigon
