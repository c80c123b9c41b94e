#include "data/sentencepiece_split.h"

#include <cstdint>

#include "data/protobuf_reader.h"
#include "data/sentencepiece_fields.h"

namespace tigon {
namespace {

namespace fields = sentencepiece_fields;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581: how pieces write a space

/// Calls visit(field) for the fields of a sound message.
template <class Visit>
void for_each_field(std::string_view message, const Visit& visit) {
  ProtobufReader reader(message);
  while (const auto field = reader.next()) visit(*field);
}

/// Whether a space stands behind another character in the piece.
bool has_inner_space(std::string_view piece) {
  if (piece.find(' ') != piece.npos) return true;
  while (piece.starts_with(kSpaceSymbol)) piece.remove_prefix(kSpaceSymbol.size());
  return piece.find(kSpaceSymbol) != piece.npos;
}

/// Collects what decides whether a cut at a space is harmless.
class SplitCheck {
 public:
  explicit SplitCheck(std::string_view model) {
    for_each_field(model, [this](const ProtobufField& field) {
      if (field.number == fields::kModelPieces) read_piece(field.bytes);
      if (field.number == fields::kModelTrainer) read_trainer(field.bytes);
      if (field.number == fields::kModelNormalizer) read_normalizer(field.bytes);
    });
  }

  bool is_good() const {
    return is_byte_pair_ && has_space_piece_ && keeps_spaces_ && !has_obstacle_;
  }

 private:
  void read_piece(std::string_view message) {
    std::string_view text;
    uint64_t type = fields::kNormalPiece;
    for_each_field(message, [&](const ProtobufField& field) {
      if (field.number == fields::kPieceText) text = field.bytes;
      if (field.number == fields::kPieceType) type = field.varint;
    });
    has_obstacle_ |= has_inner_space(text);
    // Without such a piece a space is unknown, and joins an unknown character before the cut.
    has_space_piece_ |= text == kSpaceSymbol && type == fields::kNormalPiece;
  }

  void read_trainer(std::string_view message) {
    for_each_field(message, [&](const ProtobufField& field) {
      if (field.number == fields::kTrainerModelType) {
        is_byte_pair_ = field.varint == fields::kBytePairModel;
      }
      has_obstacle_ |= field.number == fields::kTrainerSpaceIsSuffix && field.varint != 0;
    });
  }

  void read_normalizer(std::string_view message) {
    for_each_field(message, [&](const ProtobufField& field) {
      if (field.number == fields::kNormalizerJoinsSpaces) keeps_spaces_ = field.varint == 0;
      has_obstacle_ |= field.number == fields::kNormalizerCharacterMap && !field.bytes.empty();
      const bool must_be_set = field.number == fields::kNormalizerAddsSpace ||
                               field.number == fields::kNormalizerEscapesSpaces;
      has_obstacle_ |= must_be_set && field.varint == 0;
    });
  }

  bool is_byte_pair_ = false, has_space_piece_ = false, keeps_spaces_ = false;
  bool has_obstacle_ = false;
};

}  // namespace

bool can_split_at_spaces(std::string_view model) {
  return SplitCheck(model).is_good();
}

size_t first_part(std::string_view text, size_t min_bytes) {
  // A part is never empty.
  size_t space = text.find(' ', min_bytes < 1 ? 1 : min_bytes);
  for (; space < text.size(); space = text.find(' ', space + 1)) {
    const std::string_view before = text.substr(0, space);
    const bool is_inside = space + 1 < text.size() && text[space + 1] != ' ';
    if (is_inside && !before.ends_with(' ') && !before.ends_with(kSpaceSymbol)) return space;
  }
  return text.size();
}

}  // namespace tigon
