// Field numbers and values of sentencepiece_model.proto, as far as tigon looks at them.
#pragma once
#include <cstdint>

namespace tigon::sentencepiece_fields {

inline constexpr uint32_t kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3,
                          kModelDenormalizer = 5;
inline constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
inline constexpr uint64_t kNormalPiece = 1, kControlPiece = 3, kUserDefinedPiece = 4;
inline constexpr uint32_t kTrainerModelType = 3, kTrainerSpaceIsSuffix = 24;
inline constexpr uint64_t kBytePairModel = 2;
inline constexpr uint32_t kNormalizerCharacterMap = 2, kNormalizerAddsSpace = 3,
                          kNormalizerJoinsSpaces = 4, kNormalizerEscapesSpaces = 5;

}  // namespace tigon::sentencepiece_fields
