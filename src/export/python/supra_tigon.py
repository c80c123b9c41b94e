"""SUPRA: a linear recurrence without a window.

With fq = ReLU(w_q q + b_q) and fk = ReLU(w_k k + b_k) / sqrt(D), on q and k before RoPE, per query head h
  S_t = g_h S_{t-1} + RoPE(fk_t)^T v_t      o_t = RoPE(fq_t) S_t
and then a norm over each head's channels ("group_norm"), a division by fq_t z_t, z the decayed sum of fk
("denominator"), or both. Decays g_h = exp(-slope_h).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .memory_tigon import LayerMemory
from .rotary_tigon import rotate
from .scan_tigon import gated_scan

LEAST_MASS = 1e-6


def published_slopes(heads):
    """2^(-8 (i + 1) / n) for n a power of two; other numbers take every second one of the next power."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + [2 ** (-8 * (2 * i + 1) / (2 * power)) for i in range(heads - power)]


class SupraMixer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.options = options = config.linearize
        self.num_heads = H = config.num_attention_heads
        G, D = config.num_key_value_heads, config.head_dim
        # With as many KV heads as query heads one map serves q and k.
        for side, heads in (("q", H),) if G == H else (("q", H), ("k", G)):
            if options["maps"] == "across_heads":
                weight, bias = torch.eye(heads * D), torch.zeros(heads * D)
            else:
                weight, bias = torch.eye(D).repeat(heads, 1, 1), torch.zeros(heads, D)
            setattr(self, f"w_{side}", nn.Parameter(weight))
            setattr(self, f"b_{side}", nn.Parameter(bias))
        if options["decay"] == "learned":
            self.log_slope = nn.Parameter(torch.tensor(published_slopes(H)).log())
        if options["affine"]:
            self.norm_weight = nn.Parameter(torch.ones(H * D))
            self.norm_bias = nn.Parameter(torch.zeros(H * D))

    def make_memory(self):
        return LayerMemory(kept_keys=0)

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        normalizer = self.options["normalizer"]
        is_real = is_real[:, None, :, None]
        fq = self.features(q, "q")
        fk = (self.features(k, "k") / math.sqrt(q.shape[-1])).masked_fill(~is_real, 0)
        log_gate = self.log_decay(q.device)[None, :, None, None] * is_real

        def scan(name, q, k, v):
            # The states of a group's query heads differ only by their decays.
            heads = max(log_gate.shape[1], k.shape[1])
            state = memory.state(name, q.shape[0], heads, q.shape[-1], v.shape[-1], like=q)
            out, memory.states[name] = gated_scan(q, k, v, log_gate, state)
            return out

        def rotated(x):
            return rotate(x, positions, rotary)

        v = v.float()
        out = scan("matrix", rotated(fq), rotated(fk), v)
        if normalizer != "group_norm":
            out = out / scan("mass", fq, fk, torch.ones_like(v[..., :1])).clamp(min=LEAST_MASS)
        if normalizer != "denominator":
            out = F.layer_norm(out, out.shape[-1:], eps=self.options["norm_eps"])
        if self.options["affine"]:
            shape = (1, self.num_heads, 1, -1)
            out = out * self.norm_weight.float().view(shape) + self.norm_bias.float().view(shape)
        return out.to(x.dtype)

    def features(self, x, side):
        side = side if hasattr(self, f"w_{side}") else "q"
        weight, bias = getattr(self, f"w_{side}").float(), getattr(self, f"b_{side}").float()
        x = x.float()
        if weight.dim() == 3:
            return (x @ weight.transpose(-1, -2) + bias[:, None]).relu()
        B, G, T, D = x.shape
        mapped = F.linear(x.transpose(1, 2).reshape(B, T, G * D), weight, bias).relu()
        return mapped.view(B, T, G, D).transpose(1, 2)

    def log_decay(self, device):
        """[H], or [1] for all heads."""
        decay, H = self.options["decay"], self.num_heads
        if decay == "learned":
            return -self.log_slope.float().exp()
        if decay == "none":
            return torch.zeros(1, device=device)
        if decay == "retention":
            return torch.tensor([math.log1p(-(2.0 ** (-5 - h))) for h in range(H)], device=device)
        return -torch.tensor(published_slopes(H), device=device)
