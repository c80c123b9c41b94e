#include <zlib.h>

#include "core/error.h"
#include "data/unpacker.h"

namespace tigon {
namespace {

// The largest window, and only gzip's own header.
constexpr int kWindowBits = 15 + 16;

class GzipUnpacker final : public Unpacker {
 public:
  explicit GzipUnpacker(const std::string& source_name) : source_name_(source_name) {
    if (inflateInit2(&stream_, kWindowBits) != Z_OK) {
      fail("{}: out of memory while unpacking", source_name_);
    }
  }
  ~GzipUnpacker() override { inflateEnd(&stream_); }

  size_t unpack(std::string_view& packed, bool, std::span<char> unpacked) override {
    if (is_complete_ && !packed.empty()) {
      // Another member follows.
      inflateReset(&stream_);
      is_complete_ = false;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    stream_.next_out = reinterpret_cast<Bytef*>(unpacked.data());
    stream_.avail_out = static_cast<uInt>(unpacked.size());
    const int code = inflate(&stream_, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      is_complete_ = has_member_ = true;
    } else if (code == Z_MEM_ERROR) {
      fail("{}: out of memory while unpacking", source_name_);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      // Z_BUF_ERROR only says that this call had nothing to do.
      const bool is_other = !has_member_ && stream_.total_out == 0;
      fail("{}: {}", source_name_,
           is_other ? "expected a gzip file, found something else" : "the gzip data are corrupt");
    }
    packed.remove_prefix(packed.size() - stream_.avail_in);
    return unpacked.size() - stream_.avail_out;
  }
  bool is_complete() const override { return is_complete_; }

 private:
  std::string source_name_;
  z_stream stream_{};
  bool is_complete_ = false;
  bool has_member_ = false;
};

}  // namespace

std::unique_ptr<Unpacker> make_gzip_unpacker(const std::string& source_name) {
  return std::make_unique<GzipUnpacker>(source_name);
}

}  // namespace tigon
