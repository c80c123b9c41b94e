#include "ops/segments.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

namespace tigon {
namespace {

void summarize(Segments& segments) {
  const std::vector<int64_t>& lengths = segments.lengths;
  segments.total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  segments.longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  segments.are_equal =
      std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end();
}

void check_cu_seqlens(const at::Tensor& cu_seqlens) {
  TORCH_CHECK(cu_seqlens.defined() && cu_seqlens.dim() == 1 && cu_seqlens.numel() >= 1 &&
                  cu_seqlens.scalar_type() == at::kInt,
              "cu_seqlens: expected int32 [S+1], found ",
              cu_seqlens.defined() ? c10::str(cu_seqlens.scalar_type(), " ", cu_seqlens.sizes())
                                   : std::string("nothing"));
}

void check_lengths(const std::vector<int64_t>& lengths) {
  for (size_t s = 0; s < lengths.size(); ++s) {
    TORCH_CHECK(lengths[s] >= 0, "lengths: expected no negative length, found ", lengths[s],
                " for segment ", s);
  }
}

}  // namespace

Segments Segments::from_lengths(std::vector<int64_t> lengths, at::Device device) {
  check_lengths(lengths);
  Segments segments;
  segments.lengths = std::move(lengths);
  summarize(segments);
  TORCH_CHECK(segments.total <= std::numeric_limits<int32_t>::max(),
              "lengths: expected at most 2147483647 tokens in a batch, found ", segments.total);
  at::Tensor starts = at::zeros({segments.count() + 1}, at::kInt);
  int32_t* start = starts.data_ptr<int32_t>();
  for (int64_t s = 0; s < segments.count(); ++s) {
    start[s + 1] = start[s] + static_cast<int32_t>(segments.lengths[s]);
  }
  segments.cu_seqlens = starts.to(device);
  return segments;
}

Segments Segments::from_cu_seqlens(const at::Tensor& cu_seqlens, int64_t total) {
  check_cu_seqlens(cu_seqlens);
  const at::Tensor host = cu_seqlens.cpu().contiguous();
  const int32_t* start = host.data_ptr<int32_t>();
  const int64_t count = host.numel() - 1;
  TORCH_CHECK(start[0] == 0, "cu_seqlens: expected to start at 0, found ", start[0]);
  TORCH_CHECK(start[count] == total, "cu_seqlens: expected to end at the number of tokens ", total,
              ", found ", start[count]);
  Segments segments;
  segments.cu_seqlens = cu_seqlens;
  for (int64_t s = 0; s < count; ++s) {
    TORCH_CHECK(start[s + 1] >= start[s], "cu_seqlens: expected never to decrease, found ",
                start[s + 1], " after ", start[s], " at segment ", s);
    segments.lengths.push_back(start[s + 1] - start[s]);
  }
  summarize(segments);
  return segments;
}

Segments Segments::from_op_arguments(const at::Tensor& cu_seqlens, at::OptionalIntArrayRef lengths,
                                     int64_t total) {
  if (!lengths.has_value()) return from_cu_seqlens(cu_seqlens, total);
  check_cu_seqlens(cu_seqlens);
  TORCH_CHECK(static_cast<int64_t>(lengths->size()) == cu_seqlens.numel() - 1,
              "lengths: expected one for each of the ", cu_seqlens.numel() - 1,
              " segments of cu_seqlens, found ", lengths->size());
  Segments segments;
  segments.cu_seqlens = cu_seqlens;
  segments.lengths = lengths->vec();
  check_lengths(segments.lengths);
  summarize(segments);
  TORCH_CHECK(segments.total == total, "lengths: expected the sum ", total,
              " (number of tokens), found ", segments.total);
  return segments;
}

Segments Segments::keys_from_op_arguments(const std::optional<at::Tensor>& cu_seqlens,
                                          at::OptionalIntArrayRef lengths, int64_t total,
                                          const Segments& queries) {
  if (!cu_seqlens.has_value() || !cu_seqlens->defined()) {
    TORCH_CHECK(!lengths.has_value(),
                "key_lengths: expected only together with key_cu_seqlens, found it alone");
    TORCH_CHECK(total == queries.total, "k: expected one key for each of the ", queries.total,
                " queries where key_cu_seqlens is not given, found ", total);
    return queries;
  }
  Segments keys = from_op_arguments(*cu_seqlens, lengths, total);
  TORCH_CHECK(keys.count() == queries.count(), "key_cu_seqlens: expected the ", queries.count(),
              " segments of cu_seqlens, found ", keys.count());
  for (int64_t s = 0; s < keys.count(); ++s) {
    TORCH_CHECK(keys.lengths[s] >= queries.lengths[s],
                "key_cu_seqlens: expected at least as many keys as queries, ", queries.lengths[s],
                ", in segment ", s, ", found ", keys.lengths[s]);
  }
  return keys;
}

Segments Segments::range(int64_t first, int64_t count) const {
  const auto begin = lengths.begin() + first;
  Segments segments;
  segments.lengths.assign(begin, begin + count);
  summarize(segments);
  const int64_t start = std::accumulate(lengths.begin(), begin, int64_t{0});
  segments.cu_seqlens = cu_seqlens.narrow(0, first, count + 1) - start;
  return segments;
}

std::vector<int64_t> runs_of_segments(const Segments& segments, int64_t most_tokens) {
  std::vector<int64_t> runs;
  int64_t tokens = 0;  // of the run so far
  for (const int64_t length : segments.lengths) {
    if (runs.empty() || (length > 0 && tokens > most_tokens)) {
      runs.push_back(0);
      tokens = 0;
    }
    ++runs.back();
    tokens += length;
  }
  return runs;
}

at::Tensor query_rows(const Segments& queries, const Segments& keys) {
  if (queries.lengths == keys.lengths) return {};
  at::Tensor rows = at::empty({queries.total}, at::kLong);
  int64_t* row = rows.data_ptr<int64_t>();
  int64_t key_end = 0;
  for (int64_t s = 0; s < queries.count(); ++s) {
    key_end += keys.lengths[s];
    for (int64_t i = queries.lengths[s]; i > 0; --i) *row++ = key_end - i;
  }
  return rows.to(queries.cu_seqlens.device());
}

}  // namespace tigon
