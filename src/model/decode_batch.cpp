#include "model/decode_batch.h"

#include <ATen/ATen.h>

namespace tigon {

Batch make_decode_batch(const std::vector<int64_t>& slots, const ModelState& state,
                        at::Device device) {
  Batch batch;
  batch.segments = Segments::from_lengths(std::vector<int64_t>(slots.size(), 1), device);
  batch.slots = slots;
  for (const int64_t slot : slots) batch.past_lengths.push_back(state.length(slot));
  batch.positions = at::tensor(batch.past_lengths, at::kLong).to(device);
  return batch;
}

void advance_decode_batch(Batch& batch) {
  batch.positions = batch.positions + 1;
  for (int64_t& length : batch.past_lengths) ++length;
}

}  // namespace tigon
