// Ragged segments cut into blocks of one size, so that the plain definitions of the ops work
// batched over all blocks of all segments.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tigon {

/// Block b of segment s is row first_block[s] + b. Slots without a token are padding.
class BlockLayout {
 public:
  /// Segment s has lengths[s] tokens (summing to N), preceded by front_padding[s] empty slots (none
  /// if the list is empty) and followed by as few as fill its last block.
  BlockLayout(const std::vector<int64_t>& lengths, int64_t block_size, at::Device device,
              const std::vector<int64_t>& front_padding = {});

  /// [N, …] → [count, block_size, …]; padding slots are zero. A view if there is no padding.
  at::Tensor to_blocks(const at::Tensor& tokens) const;
  /// The inverse; what padding slots hold is dropped.
  at::Tensor to_tokens(const at::Tensor& blocks) const;

  int64_t block_size = 0;
  int64_t count = 0;
  std::vector<int64_t> first_block;   // [S]
  std::vector<int64_t> block_counts;  // [S]

 private:
  // All three are undefined if there is no padding.
  at::Tensor token_of_slot_;  // [count·block_size] int64, 0 for padding
  at::Tensor is_padding_;     // [count·block_size] bool
  at::Tensor slot_of_token_;  // [N] int64
};

}  // namespace tigon
