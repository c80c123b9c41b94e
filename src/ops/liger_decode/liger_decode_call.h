// A checked call of liger_decode, for its implementations.
#pragma once
#include "ops/liger_decode/liger_decode.h"

namespace tigon {

struct LigerDecodeCall {
  DecodeTokens tokens;
  DecodeState state;
  LigerDecodeOptions options;
};

/// The op's arguments as its schema has them.
LigerDecodeCall check_liger_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& positions,
                                   const at::Tensor& inverse_frequencies,
                                   const at::Tensor& ring_keys, const at::Tensor& ring_values,
                                   const at::Tensor& matrices,
                                   const std::optional<at::Tensor>& slots, double gate_normalizer,
                                   double mix, double rope_scale);

/// The definition, for any device.
at::Tensor liger_decode_plain(const LigerDecodeCall& call);

}  // namespace tigon
