#include "model/key_value_ring.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/rope/rope.h"

namespace tigon {
namespace {

constexpr int64_t kSmallestCache = 64;  // rows

at::Tensor rotate(const at::Tensor& x, const at::Tensor& positions, const Rotary& rotary) {
  return rope(x, positions, rotary.inverse_frequencies, rotary.scale);
}

}  // namespace

KeyValueRing::KeyValueRing(const HeadShape& shape, int64_t window_keys, int64_t sinks,
                           int64_t slots, at::ScalarType dtype, at::Device device)
    : layout_{.sinks = sinks, .period = window_keys}, keeps_everything_(window_keys == 0) {
  const std::vector<int64_t> sizes = {slots, layout_.rows(), shape.num_kv_heads, shape.head_dim};
  // Zeros: rows without a key get weight 0, which leaves nothing only of finite numbers.
  keys_ = at::zeros(sizes, at::device(device).dtype(dtype));
  values_ = at::zeros_like(keys_);
}

void KeyValueRing::reset(int64_t slot) {
  const at::NoGradGuard no_grad;
  keys_.select(0, slot).zero_();
  values_.select(0, slot).zero_();
}

void KeyValueRing::reserve(int64_t tokens) {
  if (keeps_everything_ && tokens > layout_.period) grow_to(tokens);
}

void KeyValueRing::make_room(const Batch& batch) {
  if (!keeps_everything_) return;
  int64_t needed = 0;
  for (size_t i = 0; i < batch.slots.size(); ++i) {
    needed = std::max(needed, batch.past_lengths[i] + batch.segments.lengths[i]);
  }
  if (needed > layout_.period) grow_to(std::max({needed, 2 * layout_.period, kSmallestCache}));
}

void KeyValueRing::grow_to(int64_t rows) {
  for (at::Tensor* tensor : {&keys_, &values_}) {
    std::vector<int64_t> sizes = tensor->sizes().vec();
    sizes[1] = rows;
    at::Tensor grown = at::zeros(sizes, tensor->options());
    grown.narrow(1, 0, tensor->size(1)).copy_(*tensor);
    *tensor = std::move(grown);
  }
  layout_.period = rows;
}

void KeyValueRing::remember(const MixerInput& input) {
  const at::NoGradGuard no_grad;
  const RingWrites& writes = input.rings->writes(layout_);
  writes.put(keys_, input.k);
  writes.put(values_, input.v);
}

KeyValueRing::Seen KeyValueRing::read_and_remember(const MixerInput& input) {
  make_room(input.batch);
  const RingReads& reads = input.rings->reads(layout_);
  Seen seen{reads.get(keys_, input.k), reads.get(values_, input.v), reads.key_positions,
            reads.key_segments};
  remember(input);
  return seen;
}

at::Tensor KeyValueRing::step(const MixerInput& input) {
  make_room(input.batch);
  remember(input);
  const RingStep& step = input.rings->step(layout_, keys_.size(0));
  const int64_t count = input.q.size(0), head_dim = input.q.size(2);
  const int64_t kv_heads = keys_.size(2), group = input.q.size(1) / kv_heads;
  const auto read = [&](const at::Tensor& rows) {
    const at::Tensor used = rows.narrow(1, 0, step.rows);
    const at::Tensor mine = step.slots.defined() ? used.index_select(0, step.slots) : used;
    return mine.to(input.q.scalar_type());
  };
  const at::Tensor q = rotate(input.q, input.batch.positions, input.rotary);
  const at::Tensor k = rotate(read(keys_).flatten(0, 1), step.positions, input.rotary);
  // The query heads of a group take the place of a sequence's queries: keys are never repeated.
  return at::scaled_dot_product_attention(
             q.view({count, kv_heads, group, head_dim}),
             k.view({count, step.rows, kv_heads, head_dim}).transpose(1, 2),
             read(values_).transpose(1, 2), step.visible.expand({count, kv_heads, group, -1}))
      .reshape({count, kv_heads * group, head_dim});
}

at::Tensor attend(const MixerInput& input, const WindowAttentionOptions& options,
                  KeyValueRing* ring) {
  if (ring != nullptr && input.rings->is_single_step()) return ring->step(input);
  KeyValueRing::Seen seen{input.k, input.v, input.batch.positions, input.batch.segments};
  if (ring != nullptr) seen = ring->read_and_remember(input);
  const at::Tensor q = rotate(input.q, input.batch.positions, input.rotary);
  const at::Tensor k = rotate(seen.k, seen.positions, input.rotary);
  return window_attention(q, k, seen.v, input.batch.segments, seen.segments, options).out;
}

}  // namespace tigon
