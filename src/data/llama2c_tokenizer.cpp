#include "data/llama2c_tokenizer.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "data/protobuf_writer.h"
#include "data/sentencepiece_fields.h"
#include "io/json_file.h"
#include "io/only_file.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;
namespace fields = sentencepiece_fields;

constexpr int32_t kMaxTokenBytes = 1 << 12;
constexpr size_t kMaxTokens = size_t{1} << 20;
constexpr size_t kUnknown = 0, kBos = 1, kEos = 2;

/// Hands out the file's numbers and texts in turn.
class Reader {
 public:
  Reader(std::string_view bytes, const std::string& source_name)
      : rest_(bytes), source_name_(source_name) {}

  template <class Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }
  std::string_view take(size_t size) {
    if (rest_.size() < size) {
      fail("{}: not a llama2.c tokenizer: expected {} more bytes, found {}", source_name_, size,
           rest_.size());
    }
    const std::string_view part = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return part;
  }
  bool is_at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
  const std::string& source_name_;
};

bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
}

/// llama2.c writes spaces where sentencepiece has U+2581.
std::string with_visible_spaces(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == ' ') {
      result += "\u2581";
    } else {
      result += letter;
    }
  }
  return result;
}

std::string piece(size_t id, std::string_view text, float score) {
  uint64_t type = fields::kNormalPiece;
  std::string name = with_visible_spaces(text);
  if (id == kUnknown) type = fields::kUnknownPiece;
  if (id == kBos || id == kEos) {
    type = fields::kControlPiece;
    name = id == kBos ? "<s>" : "</s>";
  } else if (is_byte_token(text)) {
    type = fields::kBytePiece;
  }
  return bytes_field(fields::kPieceText, name) + float_field(fields::kPieceScore, score) +
         varint_field(fields::kPieceType, type);
}

}  // namespace

std::string sentencepiece_model_of_llama2c(std::string_view bytes, const std::string& source_name) {
  Reader reader(bytes, source_name);
  const auto longest = reader.number<int32_t>();
  if (longest < 1 || longest > kMaxTokenBytes) {
    fail("{}: not a llama2.c tokenizer: expected a longest token of 1 to {} bytes, found {}",
         source_name, kMaxTokenBytes, longest);
  }
  std::string model;
  size_t count = 0;
  for (; !reader.is_at_end(); ++count) {
    const auto score = reader.number<float>();
    const auto length = reader.number<int32_t>();
    // The names of BOS and EOS may be longer than the longest token.
    if (count == kMaxTokens || !std::isfinite(score) || length < 1 || length > kMaxTokenBytes) {
      fail("{}: not a llama2.c tokenizer: token {} has length {} and score {}", source_name, count,
           length, score);
    }
    const std::string_view text = reader.take(static_cast<size_t>(length));
    model += bytes_field(fields::kModelPieces, piece(count, text, score));
  }
  if (count <= kEos) {
    fail("{}: not a llama2.c tokenizer: expected more than {} tokens, found {}", source_name,
         kEos + 1, count);
  }
  model += bytes_field(fields::kModelTrainer,
                       varint_field(fields::kTrainerModelType, fields::kBytePairModel) +
                           varint_field(fields::kTrainerVocabSize, count) +
                           varint_field(fields::kTrainerByteFallback, 1));
  model +=
      bytes_field(fields::kModelNormalizer, varint_field(fields::kNormalizerAddsSpace, 1) +
                                                varint_field(fields::kNormalizerJoinsSpaces, 0) +
                                                varint_field(fields::kNormalizerEscapesSpaces, 1));
  return model;
}

std::optional<fs::path> find_llama2c_tokenizer(const fs::path& folder) {
  // read_text_file refuses larger files: models beside it are not read.
  return find_only_file(folder, ".bin", "llama2.c tokenizer", [](const fs::path& file) {
    sentencepiece_model_of_llama2c(read_text_file(file), file.string());
  });
}

}  // namespace tigon
