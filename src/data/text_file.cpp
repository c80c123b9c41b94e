#include "data/text_file.h"

#include <lzma.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace tigon {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;
// What unpacking may take; the strongest preset of xz takes 65 MiB.
constexpr uint64_t kMaxUnpackerBytes = uint64_t{1} << 30;

/// Reads a file in pieces of kPieceBytes; the last one may be empty.
class PieceReader {
 public:
  explicit PieceReader(const std::filesystem::path& path)
      : path_(path), stream_(path, std::ios::binary), buffer_(kPieceBytes) {
    if (!stream_) fail("cannot open {}: {}", path.string(), std::strerror(errno));
  }

  std::string_view next() {
    stream_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    if (stream_.bad()) fail("cannot read {}: {}", path_.string(), std::strerror(errno));
    return {buffer_.data(), static_cast<size_t>(stream_.gcount())};
  }
  bool is_at_end() const { return stream_.eof(); }

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
  std::vector<char> buffer_;
};

const char* describe(lzma_ret code) {
  switch (code) {
    case LZMA_FORMAT_ERROR:
      return "expected an xz file, found something else";
    case LZMA_DATA_ERROR:
      return "the xz data are corrupt";
    case LZMA_BUF_ERROR:
      return "the xz data are cut off";
    case LZMA_OPTIONS_ERROR:
      return "the xz file uses options that liblzma does not know";
    case LZMA_MEMLIMIT_ERROR:
      return "unpacking would take more than 1 GiB of memory";
    case LZMA_MEM_ERROR:
      return "out of memory while unpacking";
    default:
      return "liblzma failed";
  }
}

void unpack(const std::filesystem::path& path,
            const std::function<void(std::string_view piece)>& visit) {
  PieceReader reader(path);
  lzma_stream stream = LZMA_STREAM_INIT;
  struct End {
    lzma_stream* stream;
    ~End() { lzma_end(stream); }
  } end{&stream};
  if (const lzma_ret code = lzma_stream_decoder(&stream, kMaxUnpackerBytes, LZMA_CONCATENATED);
      code != LZMA_OK) {
    fail("{}: {}", path.string(), describe(code));
  }
  std::vector<char> unpacked(kPieceBytes);
  lzma_ret code = LZMA_OK;
  while (code != LZMA_STREAM_END) {
    if (stream.avail_in == 0 && !reader.is_at_end()) {
      const std::string_view packed = reader.next();
      stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
      stream.avail_in = packed.size();
    }
    stream.next_out = reinterpret_cast<uint8_t*>(unpacked.data());
    stream.avail_out = unpacked.size();
    code = lzma_code(&stream, reader.is_at_end() ? LZMA_FINISH : LZMA_RUN);
    if (code != LZMA_OK && code != LZMA_STREAM_END) fail("{}: {}", path.string(), describe(code));
    visit({unpacked.data(), unpacked.size() - stream.avail_out});
  }
}

}  // namespace

void for_each_piece(const std::filesystem::path& file,
                    const std::function<void(std::string_view piece)>& visit) {
  const std::string ending = file.extension().string();
  if (ending != ".txt" && ending != ".xz") {
    fail("{}: expected a .txt or .xz file, found the ending \"{}\"", file.string(), ending);
  }
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(file, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    fail("{}: expected a regular file, found a folder or a special file", file.string());
  }
  if (ending == ".xz") {
    unpack(file, visit);
    return;
  }
  PieceReader reader(file);
  while (!reader.is_at_end()) visit(reader.next());
}

}  // namespace tigon
