#include <lzma.h>

#include "core/error.h"
#include "data/unpacker.h"

namespace tigon {
namespace {

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

class XzUnpacker final : public Unpacker {
 public:
  explicit XzUnpacker(const std::string& source_name) : source_name_(source_name) {
    check(lzma_stream_decoder(&stream_, kMaxUnpackerBytes, LZMA_CONCATENATED));
  }
  ~XzUnpacker() override { lzma_end(&stream_); }

  size_t unpack(std::string_view& packed, bool is_last, std::span<char> unpacked) override {
    stream_.next_in = reinterpret_cast<const uint8_t*>(packed.data());
    stream_.avail_in = packed.size();
    stream_.next_out = reinterpret_cast<uint8_t*>(unpacked.data());
    stream_.avail_out = unpacked.size();
    const lzma_ret code = lzma_code(&stream_, is_last ? LZMA_FINISH : LZMA_RUN);
    is_complete_ = code == LZMA_STREAM_END;
    if (!is_complete_) check(code);
    packed.remove_prefix(packed.size() - stream_.avail_in);
    return unpacked.size() - stream_.avail_out;
  }
  bool is_complete() const override { return is_complete_; }

 private:
  void check(lzma_ret code) const {
    if (code != LZMA_OK) fail("{}: {}", source_name_, describe(code));
  }

  std::string source_name_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool is_complete_ = false;
};

}  // namespace

std::unique_ptr<Unpacker> make_xz_unpacker(const std::string& source_name) {
  return std::make_unique<XzUnpacker>(source_name);
}

}  // namespace tigon
