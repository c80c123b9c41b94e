// The ragged batch every op works on: segments (documents, requests) laid end to end, never padded.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/OptionalArrayRef.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace tigon {

/// Where each segment of a batch starts. N tokens of all segments lie in a row; segment s holds
/// tokens cu_seqlens[s] … cu_seqlens[s+1]−1. States, RoPE positions and windows reset at every
/// border.
struct Segments {
  at::Tensor cu_seqlens;         // [S+1] int32, on the device of the data
  std::vector<int64_t> lengths;  // [S], the same on the host; a length may be 0
  int64_t total = 0;             // N
  int64_t longest = 0;
  bool are_equal = true;  // all lengths equal: the CPU path then works batched

  /// Builds the value from host lengths.
  static Segments from_lengths(std::vector<int64_t> lengths, at::Device device);
  /// From the tensor an op was called with (copies it to the host). Throws if it does not start at
  /// 0, decreases, or does not end at `total`.
  static Segments from_cu_seqlens(const at::Tensor& cu_seqlens, int64_t total);
  /// From the two arguments an op's schema takes: with `lengths` (the host copy of cu_seqlens)
  /// nothing is read from the device; without, as from_cu_seqlens. Throws if `lengths` has another
  /// count than cu_seqlens, a negative entry, or another sum than `total`.
  static Segments from_op_arguments(const at::Tensor& cu_seqlens, at::OptionalIntArrayRef lengths,
                                    int64_t total);

  /// The key segments of an op whose queries are the last of their keys: `queries` itself if
  /// cu_seqlens is not given. Throws unless there are `total` keys in as many segments as of
  /// queries and at least as many keys as queries in each.
  static Segments keys_from_op_arguments(const std::optional<at::Tensor>& cu_seqlens,
                                         at::OptionalIntArrayRef lengths, int64_t total,
                                         const Segments& queries);

  int64_t count() const { return static_cast<int64_t>(lengths.size()); }
  /// Segments first … first+count−1 as a batch of their own.
  Segments range(int64_t first, int64_t count) const;
};

/// Cuts a batch into as few runs of whole segments as there can be if in none of them a segment
/// that has tokens begins more than `most_tokens` behind the run's beginning: the number of
/// segments of each.
std::vector<int64_t> runs_of_segments(const Segments& segments, int64_t most_tokens);

/// Row numbers [N] int64, on the device of `queries`, of the keys that belong to the queries when
/// segment s has at least as many keys as queries and its queries are the last of its keys.
/// Undefined where each key has its query: then the rows are the same.
at::Tensor query_rows(const Segments& queries, const Segments& keys);

}  // namespace tigon
