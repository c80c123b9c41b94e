// The least work of each op: its inputs read once and its outputs written once, in the forward pass
// and again in the backward pass, and the floating-point operations of its products.
#pragma once
#include <vector>

#include "bench/work.h"

namespace tigon {

/// The sizes an op is measured at; those that it does not have are ignored.
struct OpSizes {
  std::vector<int64_t> lengths = {};  // tokens of each segment
  int64_t heads = 32, kv_heads = 8, head_dim = 64;
  int64_t vocabulary = 128256;
  int64_t lora_rank = 8;
  int64_t window_keys = 64;
  int64_t second_order_numbers = 14;  // R, with (R+1)(R+2)/2 channels

  int64_t tokens() const;
  int64_t hidden() const { return heads * head_dim; }
  /// Of the MLP, as in Llama-3.2-1B.
  int64_t intermediate() const { return 4 * hidden(); }
};

enum class Pass { kForward, kForwardBackward };

/// Σ over all queries of the keys that each sees: min(place in its segment, window_keys).
int64_t window_pairs(const OpSizes& sizes);

// `element` is the bytes of an element; tables as small as a head (RoPE's frequencies) and scalars
// are left out. The formulas are in op_work.cpp.
Work window_attention_work(const OpSizes& sizes, int64_t element, Pass pass);
Work gated_scan_work(const OpSizes& sizes, int64_t element, Pass pass);
Work liger_attention_work(const OpSizes& sizes, int64_t element, Pass pass);
Work joint_attention_work(const OpSizes& sizes, int64_t element, Pass pass);
Work joint_second_order_work(const OpSizes& sizes, int64_t element, Pass pass);
Work head_norm_work(const OpSizes& sizes, int64_t element, Pass pass);
Work rms_norm_work(const OpSizes& sizes, int64_t element, Pass pass);
Work add_rms_norm_work(const OpSizes& sizes, int64_t element, Pass pass);
Work rope_work(const OpSizes& sizes, int64_t element, Pass pass);
Work swiglu_work(const OpSizes& sizes, int64_t element, Pass pass);
Work lora_linear_work(const OpSizes& sizes, int64_t element, Pass pass);
Work lora_linear_packed_work(const OpSizes& sizes, int64_t element, Pass pass);
Work linear_cross_entropy_work(const OpSizes& sizes, int64_t element, Pass pass);

}  // namespace tigon
