// Unpacking compressed data that arrive in pieces.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tigon {

/// What unpacking may take. The strongest preset of xz takes 65 MiB, that of zstd 128 MiB.
inline constexpr uint64_t kMaxUnpackerBytes = uint64_t{1} << 30;

/// One format. Data may consist of several members (streams, frames) one after another; their
/// contents are joined.
class Unpacker {
 public:
  virtual ~Unpacker() = default;

  /// Unpacks from the front of `packed`, removes from it what was used, and returns how many bytes
  /// were written to `unpacked`. `is_last`: nothing comes after `packed`. Throws Error naming the
  /// source for data that are corrupt, cut off, of another format, or take more memory than
  /// kMaxUnpackerBytes.
  virtual size_t unpack(std::string_view& packed, bool is_last, std::span<char> unpacked) = 0;
  /// Whether the data may end here: at least one member was read and the last one is whole.
  virtual bool is_complete() const = 0;
};

std::unique_ptr<Unpacker> make_gzip_unpacker(const std::string& source_name);
std::unique_ptr<Unpacker> make_xz_unpacker(const std::string& source_name);
std::unique_ptr<Unpacker> make_zstd_unpacker(const std::string& source_name);

}  // namespace tigon
