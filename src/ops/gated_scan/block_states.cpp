#include "ops/gated_scan/block_states.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "ops/gated_scan/head_groups.h"

namespace tigon {
namespace {

// The permutation and its inverse.
std::pair<at::Tensor, at::Tensor> permutation(const std::vector<int64_t>& order,
                                              at::Device device) {
  std::vector<int64_t> places(order.size());
  for (size_t i = 0; i < order.size(); ++i) places[order[i]] = static_cast<int64_t>(i);
  return {at::tensor(order, at::kLong).to(device), at::tensor(places, at::kLong).to(device)};
}

// state [n, L, K, V] times whole [n, Hg, Kg], in place.
void decay_(const at::Tensor& state, const at::Tensor& whole) {
  split_heads(state, whole.size(1)).mul_(whole.unsqueeze(2).unsqueeze(-1));
}

}  // namespace

BlockStates::BlockStates(const BlockLayout& layout, at::Device device) {
  std::vector<int64_t> segments(layout.block_counts.size());
  std::iota(segments.begin(), segments.end(), int64_t{0});
  std::stable_sort(segments.begin(), segments.end(), [&](int64_t a, int64_t b) {
    return layout.block_counts[a] > layout.block_counts[b];
  });
  std::vector<int64_t> blocks;
  for (int64_t step = 0; static_cast<int64_t>(blocks.size()) < layout.count; ++step) {
    int64_t size = 0;
    for (const int64_t s : segments) {
      if (layout.block_counts[s] <= step) break;
      blocks.push_back(layout.first_block[s] + step);
      ++size;
    }
    step_sizes_.push_back(size);
  }
  std::tie(block_order_, block_places_) = permutation(blocks, device);
  std::tie(segment_order_, segment_places_) = permutation(segments, device);
}

BlockStates::Carried BlockStates::carry(const at::Tensor& whole, const at::Tensor& update,
                                        const at::Tensor& initial) const {
  const at::Tensor wholes = whole.index_select(0, block_order_);
  const at::Tensor updates = update.index_select(0, block_order_);
  const at::Tensor state = initial.index_select(0, segment_order_);
  std::vector<int64_t> shape = state.sizes().vec();
  shape[0] = wholes.size(0);
  const at::Tensor before = at::empty(shape, state.options());
  int64_t first = 0;
  for (const int64_t size : step_sizes_) {
    const at::Tensor active = state.narrow(0, 0, size);
    before.narrow(0, first, size).copy_(active);
    decay_(active, wholes.narrow(0, first, size));
    split_heads(active, updates.size(1)).add_(updates.narrow(0, first, size).unsqueeze(2));
    first += size;
  }
  return {before.index_select(0, block_places_), state.index_select(0, segment_places_)};
}

BlockStates::Gradient BlockStates::carry_backward(const at::Tensor& whole,
                                                  const at::Tensor& dbefore,
                                                  const at::Tensor& dlast) const {
  const at::Tensor wholes = whole.index_select(0, block_order_);
  const at::Tensor reads = dbefore.index_select(0, block_order_);
  const at::Tensor dstate = dlast.index_select(0, segment_order_);
  const at::Tensor after = at::empty_like(reads);
  int64_t first = reads.size(0);
  for (auto size = step_sizes_.rbegin(); size != step_sizes_.rend(); ++size) {
    first -= *size;
    const at::Tensor active = dstate.narrow(0, 0, *size);
    after.narrow(0, first, *size).copy_(active);
    decay_(active, wholes.narrow(0, first, *size));
    active.add_(reads.narrow(0, first, *size));
  }
  return {after.index_select(0, block_places_), dstate.index_select(0, segment_places_)};
}

}  // namespace tigon
