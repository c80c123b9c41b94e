// Checks of a sentencepiece model before the library sees it: the library trusts its file, and a
// crafted one makes it read outside its tables or end the process.
#pragma once
#include <string>
#include <string_view>

namespace tigon {

/// Throws Error naming `source_name` unless `model` is a protobuf message with pieces, every piece
/// is non-empty UTF-8 without NUL and of a sane length, and the character maps (double-array tries
/// over replacement texts) never lead outside themselves.
void check_sentencepiece_model(std::string_view model, const std::string& source_name);

}  // namespace tigon
