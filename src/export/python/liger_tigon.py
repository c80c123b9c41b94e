"""Liger's family: (1 - mix) * window + mix * recurrence, with a gate that is read from the keys before RoPE.

Per KV head S_t = diag(a_t) S_{t-1} + w_t^T v_t and o_t = softmax(q_t) S_t, in float32; n is gate_normalizer,
c the mean of k over a head's channels:
  liger-gla        log a = logsigmoid(k) / n                                     w = softmax(k)
  liger-hgrn2      log a = log(lower_bound + (1 - lower_bound) sigmoid(k)) / n   w = 1 - a
  liger-mamba2     log a = -softplus(c) / n                                      w = softmax(k)
  liger-mlstm, liger-retention  log a = logsigmoid(c) / n                        w = softmax(k)
  liger-rwkv6      log a = -exp(k) / n, at least -100                            w = softmax(k)
  liger-gsa        log a = logsigmoid(pool(k)) / n over M slots                  w = 1 - a, and then
                   two memories of k and of v, o_t = softmax(Kmem_t q_t) Vmem_t with q, k, v as they are
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .scan_tigon import gated_scan, slot_scores
from .window_tigon import WindowMixer

FASTEST_FADE = 100


class AveragedMixer(WindowMixer):
    """A window and a recurrence(q, k, v, is_padding, memory), which a subclass has, in float32."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.options = config.linearize

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        near = super().forward(x, q, k, v, positions, is_real, rotary, memory)
        far = self.recurrence(q.float(), k.float(), v.float(), ~is_real[:, None, :, None], memory)
        mix = self.options["mix"]
        return ((1 - mix) * near.float() + mix * far).to(near.dtype)


class LigerMixer(AveragedMixer):
    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.recipe = self.options["recipe"]

    def recurrence(self, q, k, v, is_padding, memory):
        B, G, _, D = k.shape
        log_gate = self.log_gate(k)
        is_complement = self.recipe in ("liger-hgrn2", "liger-gsa")
        write = -torch.expm1(log_gate) if is_complement else k.softmax(dim=-1)
        # A padded position neither fades the state nor adds to it.
        log_gate, write = log_gate.masked_fill(is_padding, 0), write.masked_fill(is_padding, 0)
        if self.recipe != "liger-gsa":
            state = memory.state("matrix", B, G, D, D, like=k)
            out, memory.states["matrix"] = gated_scan(q.softmax(dim=-1), write, v, log_gate, state)
            return out
        keys = memory.state("slot_keys", B, G, self.options["slots"], D, like=k)
        values = memory.state("slot_values", B, G, self.options["slots"], D, like=k)
        scores, memory.states["slot_keys"] = slot_scores(q, k, write, log_gate, keys)
        out, memory.states["slot_values"] = gated_scan(scores.softmax(dim=-1), write, v, log_gate, values)
        return out

    def log_gate(self, k):
        n = self.options["gate_normalizer"]
        if self.recipe == "liger-gla":
            return F.logsigmoid(k) / n
        if self.recipe == "liger-hgrn2":
            lower = self.options["lower_bound"]
            return (F.logsigmoid(k) if lower == 0 else (lower + (1 - lower) * k.sigmoid()).log()) / n
        if self.recipe == "liger-rwkv6":
            return -(k - math.log(n)).clamp(max=math.log(FASTEST_FADE)).exp()
        if self.recipe == "liger-gsa":
            return F.logsigmoid(pool(k, self.options["slots"])) / n
        mean = k.mean(dim=-1, keepdim=True)
        return F.logsigmoid(-mean if self.recipe == "liger-mamba2" else mean) / n


class LigerAblationMixer(AveragedMixer):
    """liger-gla with another gate or other feature maps: S_t = diag(a_t) S_{t-1} + f(k_t)^T v_t, o_t = f(q_t) S_t.

    gate_source k, v, q (the mean of a KV head's queries), learned (k w_gate): log a = logsigmoid(source) / n; none: a = 1.
    feature_map softmax; none, relu, elu (elu(x) + 1), the queries' divided by sqrt(D); hedgehog [softmax(x w), softmax(-x w)].
    """

    def __init__(self, config, layer):
        super().__init__(config, layer)
        H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        if self.options["gate_source"] == "learned":
            self.w_gate = nn.Parameter(torch.eye(D).repeat(G, 1, 1))
        if self.options["feature_map"] == "hedgehog":
            self.w_q = nn.Parameter(torch.eye(D).repeat(H, 1, 1))
            self.w_k = nn.Parameter(torch.eye(D).repeat(G, 1, 1))

    def recurrence(self, q, k, v, is_padding, memory):
        B, G, _, D = k.shape
        # A padded position neither fades the state nor adds to it.
        log_gate = self.log_gate(q, k, v).masked_fill(is_padding, 0)
        write = self.features(k, "w_k").masked_fill(is_padding, 0)
        if self.options["feature_map"] == "hedgehog":
            log_gate = torch.cat([log_gate, log_gate], dim=-1)
        sums_to_one = self.options["feature_map"] in ("softmax", "hedgehog")
        scale = 1 if sums_to_one else 1 / math.sqrt(D)
        state = memory.state("matrix", B, G, write.shape[-1], D, like=k)
        out, memory.states["matrix"] = gated_scan(self.features(q, "w_q") * scale, write, v, log_gate, state)
        return out

    def log_gate(self, q, k, v):
        name = self.options["gate_source"]
        if name == "none":
            return torch.zeros_like(k)
        if name == "learned":
            source = k @ self.w_gate.float()
        elif name == "q":
            source = q.unflatten(1, (k.shape[1], -1)).mean(dim=2)
        else:
            source = k if name == "k" else v
        return F.logsigmoid(source) / self.options["gate_normalizer"]

    def features(self, x, name):
        kind = self.options["feature_map"]
        if kind == "hedgehog":
            z = x @ getattr(self, name).float()
            return torch.cat([z.softmax(dim=-1), (-z).softmax(dim=-1)], dim=-1)
        if kind == "softmax":
            return x.softmax(dim=-1)
        return {"none": lambda x: x, "relu": F.relu, "elu": lambda x: F.elu(x) + 1}[kind](x)


def pool(k, slots):
    """k [B, G, T, D] -> [B, G, T, slots]: means of neighbouring channels, or each channel several times."""
    D = k.shape[-1]
    if slots <= D:
        return k.unflatten(-1, (slots, D // slots)).mean(dim=-1)
    return k.repeat_interleave(slots // D, dim=-1)
