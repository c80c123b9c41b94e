#include "data/bpe/model_building.h"

#include <algorithm>

#include "core/error.h"
#include "data/bpe/bpe_tokenizer.h"
#include "data/bpe/byte_characters.h"

namespace tigon {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581: how pieces write a space

/// Whether a space stands behind another character in the piece.
bool has_inner_space(std::string_view piece) {
  while (piece.starts_with(kSpaceSymbol)) piece.remove_prefix(kSpaceSymbol.size());
  return piece.find(kSpaceSymbol) != std::string_view::npos;
}

/// The pieces by name, as written; also fills `tokens`.
Vocabulary named_pieces(const BpeModelFile& file, std::vector<std::optional<std::string>>& tokens) {
  Vocabulary names;
  for (const auto& [piece, id] : file.vocabulary) {
    if (!names.add(piece, id)) {
      fail("{}: vocabulary: \"{}\" appears twice", file.source_name, piece);
    }
    if (!set_token(tokens, id, piece)) {
      fail("{}: vocabulary: expected one token an id, found \"{}\" and \"{}\" for {}",
           file.source_name, *tokens[id], piece, id);
    }
  }
  return names;
}

/// The pieces by the bytes that text has. A piece in other than GPT-2's characters comes from no
/// text; it only has an id.
Vocabulary byte_pieces(const BpeModelFile& file) {
  Vocabulary pieces;
  for (const auto& [piece, id] : file.vocabulary) {
    if (const auto bytes = bytes_of_characters(piece)) pieces.add(*bytes, id);
  }
  return pieces;
}

MergeTable merge_table(const BpeModelFile& file, const Vocabulary& names) {
  MergeTable table;
  int32_t rank = 0;
  for (const auto& merge : file.merges) {
    const std::string &left = merge.first, &right = merge.second;
    const auto id_of = [&](const std::string& piece) {
      const int32_t id = names.find(piece);
      if (id == kNoToken) {
        fail("{}: merge {} (\"{}\" and \"{}\"): \"{}\" is not in the vocabulary", file.source_name,
             rank + 1, left, right, piece);
      }
      return id;
    };
    table.add(id_of(left), id_of(right), {rank, id_of(left + right)});
    ++rank;
  }
  return table;
}

bool knows_all_bytes(const Vocabulary& pieces) {
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    if (pieces.find({&text, 1}) == kNoToken) return false;
  }
  return true;
}

int32_t unknown_id(const BpeModelFile& file, const Vocabulary& names, const Vocabulary& pieces) {
  if (!file.unknown) return kNoToken;
  const int32_t id = names.find(*file.unknown);
  const bool is_needed = !(file.options.is_byte_level && knows_all_bytes(pieces));
  if (id == kNoToken && is_needed) {
    fail("{}: unk_token: expected a token of the vocabulary, found \"{}\"", file.source_name,
         *file.unknown);
  }
  return id;
}

}  // namespace

std::unique_ptr<BpeModel> build_bpe_model(BpeModelFile file,
                                          std::vector<std::optional<std::string>>& tokens) {
  const Vocabulary names = named_pieces(file, tokens);
  Vocabulary pieces = file.options.is_byte_level ? byte_pieces(file) : names;
  file.options.unknown_id = unknown_id(file, names, pieces);
  const bool can_cut = !file.options.is_byte_level && !file.options.takes_whole_pieces &&
                       names.find(kSpaceSymbol) != kNoToken &&
                       std::none_of(file.merges.begin(), file.merges.end(), [](const auto& merge) {
                         return has_inner_space(merge.first + merge.second);
                       });
  auto model =
      std::make_unique<BpeModel>(std::move(pieces), merge_table(file, names), file.options);
  if (can_cut) model->cut_before(kSpaceSymbol);
  return model;
}

}  // namespace tigon
