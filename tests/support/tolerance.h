// The only place where tests keep tolerances. Errors are relative RMS: rms(found − expected) /
// rms(expected).
#pragma once

namespace tigon::testing {

inline constexpr double kExactMath =
    1e-12;  // float64 against float64, same formula in another order
inline constexpr double kFloat32Op = 1e-5;  // float32 op against a float64 oracle
inline constexpr double kFloat32Model =
    1e-5;  // float32 logits against another framework's float32 logits
inline constexpr double kFloat32Student =
    1e-4;  // float32 logits of a linearized model against another implementation
inline constexpr double kFormsAgree = 1e-4;  // full, chunked and token-by-token forward in float32
/// Logits, hidden states or a loss of a state that is kept in bfloat16 between tokens, over
/// hundreds of tokens: a step leaves up to 2^-8 of a number behind, at random, and the errors of as
/// many steps as the state remembers add up like a random walk while the sum grows; feature maps
/// then average over channels.
inline constexpr double kRoundedState = 3e-2;
inline constexpr double kFiniteDifference = 1e-6;  // gradcheck in float64
inline constexpr double kMergedFloat32 = 1e-4;     // merged against unmerged adapter
inline constexpr double kBf16Product = 8e-3;       // float32 sums of products of bf16 numbers
/// Low precision: err(found, ref32) ≤ kLowPrecisionFactor · err(plain version in the same
/// precision, ref32) + kLowPrecisionUlps ulps.
inline constexpr double kLowPrecisionFactor = 2;
inline constexpr double kLowPrecisionUlps = 2;

}  // namespace tigon::testing
