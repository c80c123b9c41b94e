// The only sequential part of the chunked scan: the state handed from block to block. All segments
// that still have a block take the step together.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/blocks.h"

namespace tigon {

// Shapes: M blocks, S segments, L state heads; U and Hg divide L; Kg = K or 1.
class BlockStates {
 public:
  BlockStates(const BlockLayout& layout, at::Device device);

  struct Carried {
    at::Tensor before;  // [M, L, K, V]: the state each block starts from
    at::Tensor last;    // [S, L, K, V]: after each segment's last block
  };
  /// state after a block = whole · state before it + update. whole [M, Hg, Kg],
  /// update [M, U, K, V], initial [S, L, K, V].
  Carried carry(const at::Tensor& whole, const at::Tensor& update, const at::Tensor& initial) const;

  struct Gradient {
    at::Tensor after;    // [M, L, K, V]: of the state after each block
    at::Tensor initial;  // [S, L, K, V]
  };
  /// dbefore [M, L, K, V]: of the states as the blocks' queries read them; dlast [S, L, K, V].
  Gradient carry_backward(const at::Tensor& whole, const at::Tensor& dbefore,
                          const at::Tensor& dlast) const;

 private:
  // Blocks are taken step by step, in a step by segments, the longest segment first: then the
  // segments of a step are the first ones of those of the step before.
  std::vector<int64_t> step_sizes_;
  at::Tensor block_order_, block_places_;      // a permutation [M] and its inverse
  at::Tensor segment_order_, segment_places_;  // the same [S]
};

}  // namespace tigon
