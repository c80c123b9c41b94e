#include "model/block_attention.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/upload.h"
#include "ops/blocks.h"

namespace tigon {
namespace {

/// Which sums of blocks each query block reads, and which each segment hands on. Row s·(longest+1)
/// + n holds segment s's initial state and its first n blocks.
struct Readings {
  int64_t longest = 0;         // most blocks that any segment adds
  std::vector<int64_t> added;  // [S·longest] rows of key blocks; the one after the last is none
  std::vector<int64_t> read;   // [B]
  std::vector<int64_t> last;   // [S]
};

Readings make_readings(const WindowPlaces& places, const BlockLayout& queries,
                       const BlockLayout& keys, int64_t w) {
  const int64_t S = places.queries.count();
  Readings readings;
  std::vector<int64_t> counts;
  for (int64_t s = 0; s < S; ++s) {
    const int64_t past = places.past[s];
    counts.push_back((past + places.queries.lengths[s]) / w - past / w);
    readings.longest = std::max(readings.longest, counts.back());
  }
  for (int64_t s = 0; s < S; ++s) {
    const int64_t first_block = places.past[s] / w - 1;  // −1: there is none yet
    const int64_t row_of_block_0 = keys.first_block[s] - places.first_key(s) / w;
    for (int64_t n = 0; n < readings.longest; ++n) {
      const bool exists = n < counts[s] && first_block + n >= 0;
      readings.added.push_back(exists ? row_of_block_0 + first_block + n : keys.count);
    }
    const int64_t first_row = s * (readings.longest + 1);
    for (int64_t i = 0; i < queries.block_counts[s]; ++i) readings.read.push_back(first_row + i);
    readings.last.push_back(first_row + counts[s]);
  }
  return readings;
}

std::vector<int64_t> remainders(const WindowPlaces& places, int64_t w, bool of_keys) {
  std::vector<int64_t> all;
  for (int64_t s = 0; s < places.queries.count(); ++s) {
    all.push_back((of_keys ? places.first_key(s) : places.past[s]) % w);
  }
  return all;
}

}  // namespace

BlockAttentionResult block_attention(const at::Tensor& fq, const at::Tensor& fk,
                                     const at::Tensor& v, const WindowPlaces& places, int64_t w,
                                     const std::optional<at::Tensor>& initial_state) {
  const int64_t S = places.queries.count(), H = fq.size(1), X = fk.size(1), F = fk.size(2);
  const int64_t L = v.size(1), V = v.size(2);
  const at::Tensor initial =
      initial_state ? *initial_state : at::zeros({S, X, F, V + 1}, fq.options());
  if (fq.size(0) == 0) return {fq.new_empty({0, H, V + 1}), initial};
  const at::Device device = fq.device();
  const BlockLayout query_blocks(places.queries.lengths, w, device,
                                 remainders(places, w, /*of_keys=*/false));
  const BlockLayout key_blocks(places.keys.lengths, w, device,
                               remainders(places, w, /*of_keys=*/true));
  const Readings readings = make_readings(places, query_blocks, key_blocks, w);

  const at::Tensor keys =  // [blocks, L, (X/L)·F, w]
      key_blocks.to_blocks(fk).unflatten(2, {L, X / L}).permute({0, 2, 3, 4, 1}).flatten(2, 3);
  const at::Tensor values =  // [blocks, L, w, V+1]
      key_blocks.to_blocks(at::cat({v, at::ones_like(v.narrow(2, 0, 1))}, 2)).transpose(1, 2);
  const at::Tensor sums = keys.matmul(values).view({-1, X, F, V + 1});
  const at::Tensor added = at::cat({sums, at::zeros_like(initial.narrow(0, 0, 1))})
                               .index_select(0, upload(readings.added, device))
                               .unflatten(0, {S, readings.longest});
  const at::Tensor states = at::cat({initial.unsqueeze(1), added}, 1).cumsum(1).flatten(0, 1);
  const at::Tensor queries =  // [B, X, w·H/X, F]
      query_blocks.to_blocks(fq).unflatten(2, {X, H / X}).transpose(1, 2).flatten(2, 3);
  const at::Tensor out = queries.matmul(states.index_select(0, upload(readings.read, device)))
                             .unflatten(2, {w, H / X})
                             .transpose(1, 2)
                             .flatten(2, 3);
  return {query_blocks.to_tokens(out), states.index_select(0, upload(readings.last, device))};
}

}  // namespace tigon
