#include "ops/blocks.h"

#include <ATen/Functions.h>

#include <numeric>

namespace tigon {

BlockLayout::BlockLayout(const std::vector<int64_t>& lengths, int64_t size, at::Device device,
                         const std::vector<int64_t>& front_padding)
    : block_size(size) {
  for (size_t s = 0; s < lengths.size(); ++s) {
    const int64_t front = front_padding.empty() || lengths[s] == 0 ? 0 : front_padding[s];
    first_block.push_back(count);
    block_counts.push_back((front + lengths[s] + size - 1) / size);
    count += block_counts.back();
  }
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  if (total == count * size) return;

  at::Tensor token_of_slot = at::zeros({count * size}, at::kLong);
  at::Tensor is_padding = at::ones({count * size}, at::kBool);
  at::Tensor slot_of_token = at::empty({total}, at::kLong);
  int64_t token = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    int64_t slot = first_block[s] * size + (front_padding.empty() ? 0 : front_padding[s]);
    for (int64_t i = 0; i < lengths[s]; ++i, ++token, ++slot) {
      token_of_slot.data_ptr<int64_t>()[slot] = token;
      is_padding.data_ptr<bool>()[slot] = false;
      slot_of_token.data_ptr<int64_t>()[token] = slot;
    }
  }
  token_of_slot_ = token_of_slot.to(device);
  is_padding_ = is_padding.to(device);
  slot_of_token_ = slot_of_token.to(device);
}

at::Tensor BlockLayout::to_blocks(const at::Tensor& tokens) const {
  if (!token_of_slot_.defined()) return tokens.unflatten(0, {count, block_size});
  std::vector<int64_t> mask_shape(tokens.dim(), 1);
  mask_shape[0] = count * block_size;
  return tokens.index_select(0, token_of_slot_)
      .masked_fill_(is_padding_.view(mask_shape), 0)
      .unflatten(0, {count, block_size});
}

at::Tensor BlockLayout::to_tokens(const at::Tensor& blocks) const {
  const at::Tensor slots = blocks.flatten(0, 1);
  return slot_of_token_.defined() ? slots.index_select(0, slot_of_token_) : slots;
}

}  // namespace tigon
