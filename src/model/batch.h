// What a model reads: ragged segments of tokens, their positions and the state slot each continues.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/segments.h"

namespace tigon {

class ModelState;

struct Batch {
  at::Tensor tokens;       // [N] int64
  at::Tensor positions;    // [N] int64, counted from the start of each sequence
  at::Tensor host_tokens;  // [N] int64 on the CPU, where ids are checked without waiting for a GPU
  Segments segments;
  std::vector<int64_t> slots;         // [S] state slot of each segment; empty without a state
  std::vector<int64_t> past_lengths;  // [S] tokens each slot had seen; empty without a state
};

/// One segment a sequence. With a state, segment i continues slot slots[i] (default: slot i) and
/// its positions start at that slot's length; a slot may appear once. The batch is good for one
/// forward pass with that state, which moves the slots on.
Batch make_batch(const std::vector<std::vector<int64_t>>& sequences, at::Device device,
                 const ModelState* state = nullptr, std::vector<int64_t> slots = {});

/// Rows with borders: the rows laid end to end, segment_lengths as each row gives them. Positions
/// restart at every border.
Batch make_batch(std::vector<int64_t> tokens, std::vector<int64_t> segment_lengths,
                 at::Device device);

/// Next-token targets [N]: the following token of the same segment, kIgnoredTarget at each
/// segment's end and where `counted` [N] (empty: all are) is 0 for that token.
at::Tensor next_token_targets(const Batch& batch, const std::vector<uint8_t>& counted = {});

}  // namespace tigon
