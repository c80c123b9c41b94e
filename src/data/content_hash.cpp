#include "data/content_hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <cstdint>
#include <new>

#include "data/piece_reader.h"

namespace tigon {

struct ContentHash::State {
  XXH3_state_t* xxh3 = XXH3_createState();
  ~State() { XXH3_freeState(xxh3); }
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) {
  if (state_->xxh3 == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh3);
}

ContentHash::~ContentHash() = default;

ContentHash& ContentHash::add(std::span<const std::byte> part) {
  const uint64_t size = part.size();
  XXH3_128bits_update(state_->xxh3, &size, sizeof(size));
  XXH3_128bits_update(state_->xxh3, part.data(), part.size());
  return *this;
}

ContentHash& ContentHash::add(std::string_view part) {
  return add(std::as_bytes(std::span<const char>(part.data(), part.size())));
}

ContentHash& ContentHash::add_file(const std::filesystem::path& file) {
  PieceReader reader(file);
  uint64_t size = 0;
  while (!reader.is_at_end()) {
    const std::string_view piece = reader.next();
    XXH3_128bits_update(state_->xxh3, piece.data(), piece.size());
    size += piece.size();
  }
  XXH3_128bits_update(state_->xxh3, &size, sizeof(size));
  return *this;
}

std::string ContentHash::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh3);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace tigon
