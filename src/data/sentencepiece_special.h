// The special tokens of a sentencepiece model.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace tigon {

/// Control and user-defined pieces ("<s>", "<|im_end|>") and their ids. `model` has passed
/// check_sentencepiece_model.
std::map<std::string, int32_t, std::less<>> special_pieces(std::string_view model);

}  // namespace tigon
