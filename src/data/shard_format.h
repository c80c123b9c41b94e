// How a token shard lies in its file, little-endian: ShardHeader; ids, uint32 [num_tokens], with
// kUncountedBit set in those that the loss does not count; zero or four bytes of padding; offsets,
// uint64 [num_documents + 1], where each document starts in ids; ShardTrailer. The counts come last
// because the file is written in one pass.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace tigon {

inline constexpr std::array<char, 8> kShardMagic = {'T', 'I', 'G', 'O', 'N', 'T', 'O', 'K'};
inline constexpr uint64_t kShardVersion = 2;

// Ids are below 2^31: the top bit is free.
inline constexpr uint32_t kUncountedBit = uint32_t{1} << 31;

struct ShardHeader {
  std::array<char, 8> magic = kShardMagic;
  uint64_t version = kShardVersion;
};

struct ShardTrailer {
  uint64_t num_documents = 0;
  uint64_t num_tokens = 0;
  uint64_t num_counted = 0;  // tokens that the loss counts
  // What was left out: CorpusCounts
  uint64_t empty = 0, malformed = 0, without_field = 0, too_long = 0;
  std::array<char, 32> key{};  // hexadecimal digits
  std::array<char, 8> magic = kShardMagic;
};

inline constexpr size_t kShardKeyDigits = std::tuple_size_v<decltype(ShardTrailer::key)>;
static_assert(sizeof(ShardHeader) == 16 && sizeof(ShardTrailer) == 96);

/// Padding between ids and offsets, so that offsets lie on 8 bytes.
inline uint64_t shard_padding(uint64_t num_tokens) {
  return num_tokens % 2 * sizeof(uint32_t);
}

}  // namespace tigon
