#include "data/piece_reader.h"

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tigon {

PieceReader::PieceReader(const std::filesystem::path& path)
    : path_(path), stream_(path, std::ios::binary), buffer_(kPieceBytes) {
  if (!stream_) fail("cannot open {}: {}", path.string(), std::strerror(errno));
}

std::string_view PieceReader::next() {
  stream_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  if (stream_.bad()) fail("cannot read {}: {}", path_.string(), std::strerror(errno));
  return {buffer_.data(), static_cast<size_t>(stream_.gcount())};
}

}  // namespace tigon
