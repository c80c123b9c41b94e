"""Rotary position embeddings, for the rope types that tigon exports.

Formulas as in transformers' modeling_rope_utils: default, linear, dynamic, llama3, yarn.
Shapes: B batch, T tokens, D head size.
"""

import math

import torch


def rotary_embedding(config, tokens, device):
    """Frequencies [D/2] float32 and the factor on cos and sin, for sequences of up to `tokens` tokens."""
    rope = config.rope_parameters
    kind, theta, scale = rope["rope_type"], rope["rope_theta"], 1.0
    if kind == "dynamic":
        trained = config.max_position_embeddings
        stretch = rope["factor"] * max(tokens, trained) / trained - (rope["factor"] - 1)
        theta *= stretch ** (config.head_dim / (config.head_dim - 2))
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    frequencies = scaled_frequencies(config, 1.0 / (theta**exponents))
    if kind == "yarn":
        scale = rope.get("attention_factor") or yarn_scale(rope)
    return frequencies, scale


def scaled_frequencies(config, frequencies):
    rope = config.rope_parameters
    kind = rope["rope_type"]
    if kind in ("default", "dynamic"):
        return frequencies
    if kind == "linear":
        return frequencies / rope["factor"]
    if kind == "llama3":
        # Long wavelengths are stretched by `factor`, short ones kept, those between blended.
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
        share = ((turns - low) / (high - low)).clamp(0, 1)
        return share * frequencies + (1 - share) * frequencies / rope["factor"]
    if kind == "yarn":
        low, high = yarn_range(config)
        pairs = torch.arange(len(frequencies), dtype=torch.float32, device=frequencies.device)
        share = ((pairs - low) / (high - low)).clamp(0, 1)
        return share * frequencies / rope["factor"] + (1 - share) * frequencies
    raise ValueError(f"config.json: rope_type: expected default, linear, dynamic, llama3 or yarn, found {kind}")


def yarn_range(config):
    """The pairs of dimensions between which kept frequencies blend into interpolated ones."""
    rope, D = config.rope_parameters, config.head_dim
    trained = rope.get("original_max_position_embeddings") or config.max_position_embeddings

    def pair_of_turns(turns):
        return D * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    low, high = pair_of_turns(rope.get("beta_fast") or 32), pair_of_turns(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, D - 1)
    return low, high + 0.001 if low == high else high


def yarn_scale(rope):
    def growth(mscale):
        return 1.0 if rope["factor"] <= 1 else 0.1 * mscale * math.log(rope["factor"]) + 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return growth(rope["mscale"]) / growth(rope["mscale_all_dim"])
    return growth(1.0)


def rotate(x, positions, rotary):
    """RoPE. x [B, heads, T, D], positions [B, T]; the angles are float32 whatever the dtype."""
    frequencies, scale = rotary
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, T, D/2]
    cos, sin = angles.cos() * scale, angles.sin() * scale
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
