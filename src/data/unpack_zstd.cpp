#include <zstd.h>
#include <zstd_errors.h>

#include <bit>
#include <new>

#include "core/error.h"
#include "data/unpacker.h"

namespace tigon {
namespace {

const char* describe(size_t result) {
  switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_prefix_unknown:
      return "expected a zstd file, found something else";
    case ZSTD_error_frameParameter_windowTooLarge:
      return "unpacking would take more than 1 GiB of memory";
    case ZSTD_error_memory_allocation:
      return "out of memory while unpacking";
    case ZSTD_error_dictionary_wrong:
      return "the zstd file needs a dictionary, which tigon does not read";
    default:
      return "the zstd data are corrupt";
  }
}

class ZstdUnpacker final : public Unpacker {
 public:
  explicit ZstdUnpacker(const std::string& source_name) : source_name_(source_name) {
    if (stream_ == nullptr) throw std::bad_alloc();
    constexpr int kMaxWindowLog = std::bit_width(kMaxUnpackerBytes) - 1;
    check(ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxWindowLog));
  }
  ~ZstdUnpacker() override { ZSTD_freeDStream(stream_); }

  size_t unpack(std::string_view& packed, bool, std::span<char> unpacked) override {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{unpacked.data(), unpacked.size(), 0};
    const size_t result = ZSTD_decompressStream(stream_, &out, &in);
    check(result);
    is_complete_ = result == 0;
    packed.remove_prefix(in.pos);
    return out.pos;
  }
  bool is_complete() const override { return is_complete_; }

 private:
  void check(size_t result) const {
    if (ZSTD_isError(result) != 0) fail("{}: {}", source_name_, describe(result));
  }

  std::string source_name_;
  ZSTD_DStream* stream_ = ZSTD_createDStream();
  bool is_complete_ = false;
};

}  // namespace

std::unique_ptr<Unpacker> make_zstd_unpacker(const std::string& source_name) {
  return std::make_unique<ZstdUnpacker>(source_name);
}

}  // namespace tigon
