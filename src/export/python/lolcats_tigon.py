"""LoLCATs: a softmax window, and linear attention over the tokens before it, under one denominator.

With scores s on rotated q and k, c their maximum in the window, g = sigmoid(window_logit) per head,
  o = (g sum_window exp(s - c) v + l sum_before (fq . fk) v) / (the same sums without v)
and l = 1, or 1 - g with affine factors. The window is the last W tokens ("sliding"), or the block of W
positions that a token is in and the block before it ("terrace"). Features of the rotated q and k:
"hedgehog" [softmax(x w), softmax(-x w)], "t2r" ReLU(x w + b), each at least 1e-12.

The state holds the tokens that the next one does not see in its window.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .memory_tigon import LayerMemory
from .rotary_tigon import rotate
from .scan_tigon import spread

LEAST_FEATURE = 1e-12


class LolcatsMixer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.options = options = config.linearize
        self.window_keys = config.window_of_layer(layer)
        self.is_terrace = options["window_form"] == "terrace"
        self.num_features = options["feature_dim"] * (2 if options["feature_map"] == "hedgehog" else 1)
        H, head_dim, f = config.num_attention_heads, config.head_dim, options["feature_dim"]
        maps = H if options["key_maps"] == "query_heads" else config.num_key_value_heads
        self.w_q = nn.Parameter(torch.eye(head_dim, f).repeat(H, 1, 1))
        self.w_k = nn.Parameter(torch.eye(head_dim, f).repeat(maps, 1, 1))
        if options["feature_map"] == "t2r":
            self.b_q = nn.Parameter(torch.zeros(H))
            self.b_k = nn.Parameter(torch.zeros(maps))
        g = options["window_factor"]
        self.window_logit = nn.Parameter(torch.full((H,), math.log(g / (1 - g))))

    def make_memory(self):
        return LayerMemory(2 * self.window_keys - 1 if self.is_terrace else self.window_keys - 1)

    def first_in_window(self, positions):
        """The first position that a token at each position sees."""
        W = self.window_keys
        return (positions // W - 1) * W if self.is_terrace else positions - W + 1

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        B, H, T, D = q.shape
        maps = self.w_k.shape[0]
        state = memory.state("matrix", B, maps, self.num_features, D + 1, like=q)
        seen = memory.state("seen", B, 1, like=q, dtype=torch.long)
        q = rotate(q.float(), positions, rotary)
        key_positions = positions.masked_fill(~is_real, -1)
        outputs = []
        # A piece of at most W tokens sees few keys beside the state.
        for start in range(0, T, self.window_keys):
            here = slice(start, min(start + self.window_keys, T))
            near = memory.extend(k=k[:, :, here], v=v[:, :, here], positions=key_positions[:, here])
            near_k = rotate(near["k"].float(), near["positions"], rotary)
            values = F.pad(near["v"].float(), (0, 1), value=1.0)
            at = near["positions"][:, None]  # [B, 1, keys]
            in_state = self.first_in_window(seen)[:, None]  # [B, 1, 1]: positions below are in the state
            first = self.first_in_window(positions[:, here])[:, :, None]  # [B, piece, 1]
            in_window = (at >= first) & (at <= positions[:, here, None]) & (at >= 0)
            in_window = in_window | ~is_real[:, here, None]
            between = (at >= in_state) & (at < first) & (at >= 0)
            fk = self.features(near_k, "k")
            outputs.append(self.mix(q[:, :, here], near_k, values, in_window, between, fk, state))
            # What the token after this piece does not see in its window enters the state.
            seen = seen + is_real[:, here].sum(dim=1, keepdim=True)
            enters = (at >= in_state) & (at < self.first_in_window(seen)[:, None]) & (at >= 0)
            entering = fk * enters[:, :, :, None]
            state = state + entering.transpose(-1, -2) @ spread(values, maps)
        memory.states |= {"matrix": state, "seen": seen}
        return torch.cat(outputs, dim=2).to(x.dtype)

    def mix(self, q, k, values, in_window, between, fk, state):
        """q [B, H, t, D], k [B, G, keys, D], values [B, G, keys, D + 1], masks [B, t, keys] -> [B, H, t, D]."""
        H = q.shape[1]
        scores = q @ spread(k, H).transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~in_window[:, None], -math.inf)
        near = (scores - scores.amax(dim=-1, keepdim=True)).exp() @ spread(values, H)
        fq = self.features(q, "q")
        weights = (fq @ spread(fk, H).transpose(-1, -2)) * between[:, None]
        far = weights @ spread(values, H) + fq @ spread(state, H)
        g = self.window_logit.float().sigmoid()[:, None, None]
        sums = g * near + ((1 - g) * far if self.options["affine_factors"] else far)
        return sums[..., :-1] / sums[..., -1:]

    def features(self, x, side):
        """x [B, heads, T, D] -> [B, maps, T, features]."""
        weight = getattr(self, f"w_{side}").float()
        x = spread(x, weight.shape[0]) @ weight
        if self.options["feature_map"] == "hedgehog":
            features = torch.cat([x.softmax(dim=-1), (-x).softmax(dim=-1)], dim=-1)
        else:
            features = (x + getattr(self, f"b_{side}").float()[:, None, None]).relu()
        return features.clamp(min=LEAST_FEATURE)
