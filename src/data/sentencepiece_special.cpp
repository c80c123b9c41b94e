#include "data/sentencepiece_special.h"

#include "data/protobuf_reader.h"
#include "data/sentencepiece_fields.h"

namespace tigon {

namespace fields = sentencepiece_fields;

std::map<std::string, int32_t, std::less<>> special_pieces(std::string_view model) {
  std::map<std::string, int32_t, std::less<>> found;
  int32_t id = 0;
  ProtobufReader reader(model);
  while (const auto piece = reader.next()) {
    if (piece->number != fields::kModelPieces) continue;
    std::string_view text;
    uint64_t type = fields::kNormalPiece;
    ProtobufReader piece_reader(piece->bytes);
    while (const auto field = piece_reader.next()) {
      if (field->number == fields::kPieceText) text = field->bytes;
      if (field->number == fields::kPieceType) type = field->varint;
    }
    const bool is_special = type == fields::kControlPiece || type == fields::kUserDefinedPiece;
    if (is_special) found.emplace(text, id);
    ++id;
  }
  return found;
}

}  // namespace tigon
