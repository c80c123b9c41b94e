// Softmax attention over the last keys of each segment; with window_keys = 0 over all of them.
#pragma once
#include <ATen/core/Tensor.h>

#include "ops/segments.h"

namespace tigon {

struct WindowAttentionOptions {
  int64_t window_keys = 0;  // keys a token sees, itself included; 0: all earlier ones (the teacher)
  int64_t sinks = 0;  // first keys of a segment that every later token sees besides its window
  double scale = 0;   // 0 means 1/√D
  bool return_lse = false;  // whether lse is wanted (a faster path exists without it)
};

struct WindowAttentionResult {
  at::Tensor out;  // [N, H, D], dtype of q
  // [N, H] float32 (float64 for float64 inputs): natural logarithm of the softmax denominator,
  // sinks included, differentiable; undefined if not asked for.
  at::Tensor lse;
};

/// q [N, H, D], k and v [M, Hkv, D], all of one dtype, q and k already rotated; Hkv divides H and
/// k, v are never repeated in memory. Segment s has as many queries as `segments` says and at least
/// as many keys as queries: its queries are the last ones of its keys (`key_segments`, equal to
/// `segments` when there is no cached prefix). A query sees only keys of its own segment that are
/// not later than itself. Softmax in float32 (float64 for float64). Gradients: q, k, v.
WindowAttentionResult window_attention(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const Segments& segments,
                                       const Segments& key_segments,
                                       const WindowAttentionOptions& options);

}  // namespace tigon
