// How kernels that work row by row share a thread block out. Seen by nvcc: no Torch header.
#pragma once
#include <cstdint>

namespace tigon {

/// A block of kThreads threads works on `rows` rows at once, `threads` to a row; both are powers of
/// two.
struct RowBlocks {
  /// 8 warps: 8 such blocks fill a multiprocessor, so that one waits while others load.
  static constexpr int kThreads = 256;
  int threads = kThreads;
  int rows = 1;

  /// Blocks that cover `count` rows.
  int64_t blocks(int64_t count) const { return (count + rows - 1) / rows; }
};

/// For rows of `vectors` pieces of 16 bytes: as few threads as give each at most one piece, so that
/// short rows (64 numbers of a head) do not leave lanes idle; longer rows are walked in steps.
constexpr RowBlocks row_blocks(int64_t vectors) {
  RowBlocks blocks;
  while (blocks.threads / 2 >= vectors && blocks.threads > 1) blocks.threads /= 2;
  blocks.rows = RowBlocks::kThreads / blocks.threads;
  return blocks;
}

/// Runs of rows for sums over all of them, added up apart and then together: at least 64 rows each,
/// at most 256 of them. With 2048 bfloat16 columns (8 blocks wide) that is 2048 blocks, enough for
/// any GPU, while the sums kept between the stages stay below 1 % of the rows.
constexpr int64_t row_slices(int64_t rows) {
  const int64_t slices = (rows + 63) / 64;
  return slices < 256 ? slices : 256;
}

/// The most rows a launch can cover, one block each at the least favourable (gridDim.x).
inline constexpr int64_t kMostRows = INT32_MAX;

}  // namespace tigon
