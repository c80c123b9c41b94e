// Feeding a long text to sentencepiece in parts, with the ids of the whole. The library's time and
// memory for one call grow faster than the text: 20 MB take 1.8 GB.
#pragma once
#include <cstddef>
#include <string_view>

namespace tigon {

/// Whether this model gives a text the same ids when it is cut at a space inside (and that space
/// dropped, because the model puts one before every text). True for byte-pair models without a
/// character map that keep every space and in which no piece holds a space behind another
/// character: then no merge crosses the cut. `model` has passed check_sentencepiece_model.
bool can_split_at_spaces(std::string_view model);

/// How many bytes of `text` come before the first space, at `min_bytes` or later, that stands alone
/// between other characters; all of them if there is none.
size_t first_part(std::string_view text, size_t min_bytes);

}  // namespace tigon
