#include "data/text_file.h"

#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "data/file_kind.h"
#include "data/piece_reader.h"
#include "data/unpacker.h"

namespace tigon {
namespace {

/// nullptr for a file that is not packed.
std::unique_ptr<Unpacker> make_unpacker(Packing packing, const std::string& source_name) {
  switch (packing) {
    case Packing::kGzip:
      return make_gzip_unpacker(source_name);
    case Packing::kXz:
      return make_xz_unpacker(source_name);
    case Packing::kZstd:
      return make_zstd_unpacker(source_name);
    case Packing::kNone:
      break;
  }
  return nullptr;
}

void unpack(PieceReader& reader, Unpacker& unpacker, const std::string& source_name,
            const std::function<void(std::string_view piece)>& visit) {
  std::vector<char> unpacked(kPieceBytes);
  std::string_view packed;
  while (true) {
    if (packed.empty() && !reader.is_at_end()) packed = reader.next();
    if (packed.empty() && reader.is_at_end() && unpacker.is_complete()) return;
    const size_t before = packed.size();
    const size_t written = unpacker.unpack(packed, reader.is_at_end(), unpacked);
    if (written > 0) visit({unpacked.data(), written});
    const bool is_stuck = written == 0 && packed.size() == before;
    if (is_stuck && reader.is_at_end() && !unpacker.is_complete()) {
      fail("{}: the packed data are cut off", source_name);
    }
  }
}

}  // namespace

void for_each_piece(const std::filesystem::path& file,
                    const std::function<void(std::string_view piece)>& visit) {
  const FileKind kind = file_kind(file);
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(file, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    fail("{}: expected a regular file, found a folder or a special file", file.string());
  }
  PieceReader reader(file);
  if (const auto unpacker = make_unpacker(kind.packing, file.string())) {
    return unpack(reader, *unpacker, file.string(), visit);
  }
  while (!reader.is_at_end()) visit(reader.next());
}

}  // namespace tigon
