// float32 to bfloat16, up or down at random in proportion to what is left over: sums that are kept
// in bfloat16 and get increments below half a unit in the last place then still grow, on average by
// as much as they should.
//   word = bits of x;   bits of the result = (word + r) >> 16,   r from 0 to 65535
// r is no state but a hash, of the sequence's position and of the number's place in its state:
//   r = 16 bits of mix(mix(position + 0x9e3779b9) + place/2), the lower ones for even places
//   mix(x): x ← (x ^ x>>16)·0x045d9f3b twice, then x ^ x>>16, all modulo 2³²
// so the same sequence is rounded alike in any slot, in any batch and on any device.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// x [S, …] float32, positions [S] int64 of the token after which each x_s is kept → bfloat16 of
/// the same shape. The place of a number counts from 0 within its x_s. A number that bfloat16 holds
/// stays as it is, another becomes one of its two neighbours there, the upper one (in magnitude)
/// with a probability of how near it is; finite numbers stay finite. NaN and infinities stay.
/// There is no gradient: an x that requires one is refused.
at::Tensor stochastic_round(const at::Tensor& x, const at::Tensor& positions);

}  // namespace tigon
