#include "model/window_sums.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "model/upload.h"
#include "ops/blocks.h"

namespace tigon {
namespace {

/// The blocks of w positions in which queries stand, and of each the two blocks of keys it meets.
struct Meetings {
  std::vector<int64_t> before, own;  // [B] rows of key blocks; before may be any where has none
  std::vector<int64_t> first_position, first_key;  // [B] of the query block; of its segment
};

Meetings make_meetings(const WindowPlaces& places, const BlockLayout& queries,
                       const BlockLayout& keys, int64_t w) {
  Meetings meetings;
  for (int64_t s = 0; s < places.queries.count(); ++s) {
    const int64_t first_key = places.first_key(s);
    for (int64_t i = 0; i < queries.block_counts[s]; ++i) {
      const int64_t block = places.past[s] / w + i;  // counted from the start of the sequence
      const int64_t row = keys.first_block[s] + block - first_key / w;
      meetings.own.push_back(row);
      meetings.before.push_back(std::max<int64_t>(row - 1, 0));
      meetings.first_position.push_back(block * w);
      meetings.first_key.push_back(first_key);
    }
  }
  return meetings;
}

/// Whether a query block's slot sees a slot of its two key blocks: [B, 1, w, 1, 2w]. A slot always
/// sees itself, so that empty slots have finite sums too.
at::Tensor visible(const Meetings& meetings, int64_t w, bool is_terrace, at::Device device) {
  const at::TensorOptions options = at::device(device).dtype(at::kLong);
  const at::Tensor start = upload(meetings.first_position, device).view({-1, 1, 1, 1, 1});
  const at::Tensor first_key = upload(meetings.first_key, device).view({-1, 1, 1, 1, 1});
  const at::Tensor query = start + at::arange(w, options).view({1, 1, w, 1, 1});
  const at::Tensor key = start - w + at::arange(2 * w, options);
  at::Tensor sees = (key <= query).logical_and(key >= first_key);
  if (!is_terrace) sees = sees.logical_and(key > query - w);
  return sees.logical_or(key == query);
}

std::vector<int64_t> remainders(const std::vector<int64_t>& positions, int64_t w) {
  std::vector<int64_t> all;
  for (const int64_t position : positions) all.push_back(position % w);
  return all;
}

}  // namespace

WindowSums window_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const WindowPlaces& places, int64_t window_keys, bool is_terrace) {
  const int64_t H = q.size(1), D = q.size(2), L = k.size(1), w = window_keys;
  if (q.size(0) == 0) return {at::empty_like(q), q.new_empty({0, H})};
  std::vector<int64_t> first_keys;
  for (int64_t s = 0; s < places.queries.count(); ++s) first_keys.push_back(places.first_key(s));
  const BlockLayout query_blocks(places.queries.lengths, w, q.device(), remainders(places.past, w));
  const BlockLayout key_blocks(places.keys.lengths, w, q.device(), remainders(first_keys, w));
  const Meetings meetings = make_meetings(places, query_blocks, key_blocks, w);
  const at::Tensor before = upload(meetings.before, q.device());
  const at::Tensor own = upload(meetings.own, q.device());
  // [M, L, X] → [B, L, 2w, X].
  const auto two_blocks = [&](const at::Tensor& x) {
    const at::Tensor blocks = key_blocks.to_blocks(x);
    return at::cat({blocks.index_select(0, before), blocks.index_select(0, own)}, 1)
        .transpose(1, 2);
  };
  // [B, L, w·G, D], the query heads of a group beside each other.
  const at::Tensor queries =
      query_blocks.to_blocks(q).unflatten(2, {L, H / L}).transpose(1, 2).flatten(2, 3);
  const at::Tensor scores =
      (queries.matmul(two_blocks(k).mT()) / std::sqrt(static_cast<double>(D)))
          .unflatten(2, {w, H / L})
          .masked_fill(visible(meetings, w, is_terrace, q.device()).logical_not(),
                       -std::numeric_limits<double>::infinity());  // [B, L, w, G, 2w]
  const at::Tensor weights = (scores - scores.amax(-1, /*keepdim=*/true)).exp();
  const at::Tensor values = weights.flatten(2, 3).matmul(two_blocks(v));  // [B, L, w·G, D]
  const auto to_tokens = [&](const at::Tensor& x) {                       // [B, L, w, G, X]
    return query_blocks.to_tokens(x.transpose(1, 2).flatten(2, 3));
  };
  return {to_tokens(values.unflatten(2, {w, H / L})),
          to_tokens(weights.sum(-1, /*keepdim=*/true)).squeeze(-1)};
}

}  // namespace tigon
