// How many threads a block of a decode step has. Seen by nvcc: no Torch header.
#pragma once

namespace tigon {

/// For a matrix of this many columns, at most `most`: whole groups of a thread for each four
/// numbers of four rows, in whole warps. Never by the number of sequences, so that one gives the
/// same bits alone and among others.
constexpr int decode_step_threads(int columns, int most) {
  return (most / columns * columns + 31) / 32 * 32;
}

}  // namespace tigon
