"""The mixer of the recipe `tigon`: a window and a recurrence over the tokens that left it, under one denominator.

Shapes: B batch, T new tokens, S >= T tokens at hand, H query heads, G KV heads, D head size, M hidden size.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .memory_tigon import LayerMemory
from .scan_tigon import gated_scan
from .window_tigon import WindowMixer


class TigonMixer(WindowMixer):
    """A token enters the recurrence when it leaves the window of w keys. Per KV head, with
    phi(z) = softmax([z; -z]) (second order: [1; z; z_e z_f (e < f), z_e^2 / sqrt(2)]), phi_q = phi(q w_q + b_q), phi_k = e^clip(log_importance, +-6) phi(k w_k + b_k),
      a = exp(-1 / max(8, e^log_tau))           S_i = diag(a) S_{i-1} + phi_k_{i-w} [v_{i-w}; 1]^T
      [N, Z] = phi_q S                          log_importance = 16 / sqrt(M) x w_importance
      o = (sum_window e^s v + b N) / (sum_window e^s + b Z)      log b = b_mix + 16 / sqrt(M) x w_mix
    q and k before RoPE in the recurrence; memory: w tokens with their log-importance, and S in float32 (or bfloat16
    between tokens).
    """

    LONGEST_LOG_IMPORTANCE = 6
    SHORTEST_DECAY_TIME = 8  # tokens
    LEAST_MASS = 1e-30  # of Z; there is no recurrent part below it

    def __init__(self, config, layer):
        super().__init__(config, layer)
        H, G, D, M = config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.hidden_size
        self.rank = config.feature_rank_of_layer(layer)  # 0: softmax of as many numbers as a head has
        R = self.rank or D
        self.channels = (R + 1) * (R + 2) // 2 if self.rank else 2 * R  # E
        self.w_q, self.b_q = nn.Parameter(torch.empty(H, D, R)), nn.Parameter(torch.empty(H, R))
        self.w_k, self.b_k = nn.Parameter(torch.empty(G, D, R)), nn.Parameter(torch.empty(G, R))
        self.log_tau = nn.Parameter(torch.empty(G, self.channels))
        self.w_importance = nn.Parameter(torch.empty(M, G))
        self.w_mix, self.b_mix = nn.Parameter(torch.empty(M, H)), nn.Parameter(torch.empty(H))
        self.logit_scale = 16 / math.sqrt(M)

    def make_memory(self):
        # The oldest of the kept tokens is the one that the next makes leave the window.
        return LayerMemory(self.window_keys)

    def logits(self, x, weight):
        """[B, T, M], [M, n] -> [B, n, T] in float32."""
        return (x @ (weight.float() * self.logit_scale).to(x.dtype)).float().transpose(1, 2)

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        seen = memory.extend(
            k=k,
            v=v,
            positions=positions.masked_fill(~is_real, -1),
            log_importance=self.logits(x, self.w_importance),
        )
        wide = dict(seen, k=seen["k"].float(), v=seen["v"].float())
        near, log_sum = self.attend_window(q.float(), wide, positions, is_real, rotary)
        far = self.recurrence(q.float(), wide, memory)  # [B, H, T, D+1]
        mass = far[..., -1]
        has_far = mass > self.LEAST_MASS
        safe_mass = mass.masked_fill(~has_far, 1)
        log_mix = self.logits(x, self.w_mix) + self.b_mix.float()[:, None]
        share = torch.sigmoid(log_mix + safe_mass.log() - log_sum).masked_fill(~has_far, 0)
        out = torch.lerp(near, far[..., :-1] / safe_mass[..., None], share[..., None])
        return out.to(x.dtype)

    def recurrence(self, q, seen, memory):
        B, H, T, D = q.shape
        G = self.w_k.shape[0]
        features = self.feature_map(seen["k"], self.w_k, self.b_k)
        limit = self.LONGEST_LOG_IMPORTANCE
        features = features * seen["log_importance"].clamp(-limit, limit).exp()[..., None]
        features = features.masked_fill((seen["positions"] < 0)[:, None, :, None], 0)
        values = F.pad(seen["v"], (0, 1), value=1.0)
        log_decay = -1 / self.log_tau.float().exp().clamp_min(self.SHORTEST_DECAY_TIME)
        log_gate = log_decay[None, :, None].expand(B, G, T, self.channels)
        state = memory.state("matrix", B, G, self.channels, D + 1, like=q)
        out, memory.states["matrix"] = gated_scan(
            self.feature_map(q, self.w_q, self.b_q), self.leaving(features, T), self.leaving(values, T), log_gate, state
        )
        return out

    def leaving(self, x, T):
        """[B, G, S, n] of all tokens -> [B, G, T, n] of those that leave the window with each new token; 0: none."""
        return F.pad(x, (0, 0, self.window_keys, 0))[:, :, x.shape[2] - T : x.shape[2]]

    def feature_map(self, x, w, b):
        z = x @ w.float() + b.float()[:, None]
        if not self.rank:
            return torch.cat([z, -z], dim=-1).softmax(dim=-1)
        left, right = torch.triu_indices(self.rank, self.rank, device=z.device)
        products = z[..., left] * z[..., right] * torch.where(left == right, 0.5**0.5, 1.0)
        return torch.cat([torch.ones_like(z[..., :1]), z, products], dim=-1)
