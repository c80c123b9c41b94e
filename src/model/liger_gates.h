// What the recurrences of Liger's family read from the keys.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

#include "model/liger_mixer.h"

namespace tigon {

/// log a of make_liger_mixer's formulas. k [N, Hkv, D] before RoPE, float32 or float64 →
/// [N, Hkv, D], [N, Hkv, 1] for one a head, [N, Hkv, slots] for kGsa. At most 0.
at::Tensor liger_log_gate(const at::Tensor& k, const LigerMixerOptions& options);

/// w, or s of kGsa: what the state takes v in with.
at::Tensor liger_write(const at::Tensor& k, const at::Tensor& log_gate,
                       const LigerMixerOptions& options);

/// What every mixer of the family asks of its numbers; an Error names the mixer, expected and
/// found.
void check_liger_numbers(std::string_view mixer, int64_t window_keys, double gate_normalizer,
                         double mix);

/// The gate's formula for people, e.g. "σ(mean k)^(1/16)".
std::string liger_gate_text(const LigerMixerOptions& options);

}  // namespace tigon
