"""The mixers of a tigon model: what stands between q, k, v and the output projection of a layer.

  softmax    causal attention over all earlier tokens, or over the window that the base itself has in that
             layer (layers that a hybrid keeps); memory: all keys, or that window
  window     causal attention over the last `window_keys` tokens, itself included; memory: those keys
  liger-gla  (1 - mix) * window + mix * recurrence, where per KV head
               S_t = diag(a_t) S_{t-1} + softmax(k_t)^T v_t      o_t = softmax(q_t) S_t
               log a_t = logsigmoid(k_t) / gate_normalizer
             on q and k before RoPE; memory: the window's keys and one float32 matrix S
  tigon      a window of w keys and a recurrence over the tokens that left it, under one denominator (TigonMixer)

Shapes: B batch, T new tokens, P remembered tokens, S = P + T, H query heads, G KV heads, D head size, M hidden size.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .rotary_tigon import rotate

# Tokens the recurrence takes at once. Within a chunk the decay between every pair of tokens is formed,
# so that only exponents <= 0 occur: memory grows with this number, the length of the loop shrinks.
SCAN_CHUNK = 16
# Queries of one block of window attention; a block reads its own keys and W - 1 earlier ones.
WINDOW_BLOCK = 128


def attend(q, k, v, visible):
    """Softmax attention. q [B, H, T, D], k and v [B, G, S, D], visible [B, T, S].

    -> out [B, H, T, D] and the logarithm of each query's sum of exponentials [B, H, T] in float32.
    """
    B, H, T, D = q.shape
    G = k.shape[1]
    # The query heads of a KV head lie one after another, so that k and v are never repeated.
    q = q.reshape(B, G, (H // G) * T, D)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(D)
    scores = scores.view(B, G, H // G, T, -1).masked_fill(~visible[:, None, None], -math.inf)
    weights = scores.softmax(dim=-1).to(q.dtype).view(B, G, (H // G) * T, -1)
    return (weights @ v).view(B, H, T, D), scores.logsumexp(dim=-1).view(B, H, T)


def window_attention(q, k, v, q_positions, k_positions, q_is_real, window_keys):
    """Attention over the last `window_keys` real tokens of the same sequence.

    k, v and k_positions hold S >= T tokens of which the last T belong to q; k_positions is -1 where
    there is no token (padding, or a window that is not full yet). -> out and sums as `attend` gives them.
    """
    T, S = q.shape[2], k.shape[2]
    outputs, log_sums = [], []
    for start in range(0, T, WINDOW_BLOCK):
        stop = min(start + WINDOW_BLOCK, T)
        last = S - T + stop
        first = max(0, S - T + start - (window_keys - 1))
        q_at = q_positions[:, start:stop, None]  # [B, block, 1]
        k_at = k_positions[:, None, first:last]  # [B, 1, keys]
        visible = (k_at >= 0) & (k_at <= q_at) & (k_at > q_at - window_keys)
        # Padding sees all keys: its output is never used, but must not be NaN.
        visible = visible | ~q_is_real[:, start:stop, None]
        out, log_sum = attend(q[:, :, start:stop], k[:, :, first:last], v[:, :, first:last], visible)
        outputs.append(out)
        log_sums.append(log_sum)
    return torch.cat(outputs, dim=2), torch.cat(log_sums, dim=2)


def gated_scan(q, k, v, log_gate, state):
    """S_t = diag(exp(log_gate_t)) S_{t-1} + k_t^T v_t, o_t = q_t S_t, in float32.

    q [B, H, T, K]; k and log_gate [B, G, T, K]; v [B, G, T, V]; state [B, G, K, V] -> o [B, H, T, V], state.
    """
    B, H, T, K = q.shape
    G = k.shape[1]
    q = q.reshape(B, G, H // G, T, K)
    outputs = []
    for start in range(0, T, SCAN_CHUNK):
        here = slice(start, min(start + SCAN_CHUNK, T))
        qc, kc, vc = q[:, :, :, here], k[:, :, here], v[:, :, here]
        decay = log_gate[:, :, here].cumsum(dim=2)  # since the chunk's start, own token included
        # What the chunk's tokens read from the state before it ...
        before = (qc * decay.exp()[:, :, None]) @ state[:, :, None]
        # ... and from each other: the decay from token j to token i >= j, never a growing factor.
        between = decay[:, :, :, None] - decay[:, :, None]  # [B, G, i, j, K]
        length = between.shape[2]
        is_later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        between = between.masked_fill(is_later[:, :, None], -math.inf).exp()
        scores = torch.einsum("bgrid,bgijd,bgjd->bgrij", qc, between, kc)
        outputs.append(before + scores @ vc[:, :, None])
        # To the chunk's end.
        total = decay[:, :, -1:]
        state = total.exp().transpose(-1, -2) * state + (kc * (total - decay).exp()).transpose(-1, -2) @ vc
    return torch.cat(outputs, dim=3).view(B, H, T, -1), state


class LayerMemory:
    """What one layer remembers: of the last tokens (columns) keys before RoPE, values, positions [B, P] (-1:
    none) and what else a mixer keeps of each, and a recurrent state."""

    def __init__(self, kept_keys):
        self.kept_keys = kept_keys  # None: all
        self.columns = {}  # name -> [B, P] or [B, G, P, ...]
        self.state = None

    def extend(self, **new):
        """Appends what new tokens bring, returns all by name, and forgets what no later token needs."""
        columns = {}
        for name, tensor in new.items():
            axis = 1 if tensor.dim() == 2 else 2
            old = self.columns.get(name)
            columns[name] = tensor if old is None else torch.cat([old, tensor], dim=axis)
            forgotten = 0 if self.kept_keys is None else max(0, columns[name].shape[axis] - self.kept_keys)
            kept = columns[name].narrow(axis, forgotten, columns[name].shape[axis] - forgotten)
            # A view alone would keep the whole prompt alive.
            self.columns[name] = kept.clone() if forgotten > 0 else kept
        return columns

    def tensors(self):
        return [t for t in (*self.columns.values(), self.state) if t is not None]

    def select(self, rows):
        self.columns = {name: t.index_select(0, rows.to(t.device)) for name, t in self.columns.items()}
        if self.state is not None:
            self.state = self.state.index_select(0, rows.to(self.state.device))


class WindowMixer(nn.Module):
    """Softmax over the last `window_keys` tokens; over all of them if that is 0."""

    def __init__(self, config, layer):
        super().__init__()
        self.window_keys = config.window_of_layer(layer)

    @staticmethod
    def kept_keys(window_keys):
        """Tokens to remember; None: all. Beside the new token a window of W keys needs W - 1 old ones."""
        return window_keys - 1 if window_keys > 0 else None

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        """x [B, T, M] the attention's input; q [B, H, T, D], k and v [B, G, T, D] before RoPE; positions and
        is_real [B, T] -> [B, H, T, D]."""
        seen = memory.extend(k=k, v=v, positions=positions.masked_fill(~is_real, -1))
        return self.attend_window(q, seen, positions, is_real, rotary)[0]

    def attend_window(self, q, seen, positions, is_real, rotary):
        window_keys = self.window_keys or seen["positions"].shape[1]
        rotated_k = rotate(seen["k"], seen["positions"], rotary)
        return window_attention(
            rotate(q, positions, rotary), rotated_k, seen["v"], positions, seen["positions"], is_real, window_keys
        )


class LigerGlaMixer(WindowMixer):
    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.mix = config.linearize["mix"]
        self.gate_normalizer = config.linearize["gate_normalizer"]

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        near = super().forward(x, q, k, v, positions, is_real, rotary, memory)
        out = (1 - self.mix) * near.float() + self.mix * self.recurrence(q, k, v, is_real, memory)
        return out.to(x.dtype)

    def recurrence(self, q, k, v, is_real, memory):
        q, k, v = q.float(), k.float(), v.float()
        log_gate = F.logsigmoid(k) / self.gate_normalizer
        # A padded position neither fades the state nor adds to it.
        is_padding = ~is_real[:, None, :, None]
        log_gate = log_gate.masked_fill(is_padding, 0)
        feature_k = k.softmax(dim=-1).masked_fill(is_padding, 0)
        if memory.state is None:
            B, G, _, D = k.shape
            memory.state = torch.zeros(B, G, D, D, dtype=torch.float32, device=k.device)
        out, memory.state = gated_scan(q.softmax(dim=-1), feature_k, v, log_gate, memory.state)
        return out


class TigonMixer(WindowMixer):
    """A token enters the recurrence when it leaves the window of w keys. Per KV head, with
    phi(z) = softmax([z; -z]), phi_q = phi(q w_q + b_q), phi_k = e^clip(log_importance, +-6) phi(k w_k + b_k),
      a = exp(-1 / max(8, e^log_tau))           S_i = diag(a) S_{i-1} + phi_k_{i-w} [v_{i-w}; 1]^T
      [N, Z] = phi_q S                          log_importance = 16 / sqrt(M) x w_importance
      o = (sum_window e^s v + b N) / (sum_window e^s + b Z)      log b = b_mix + 16 / sqrt(M) x w_mix
    q and k before RoPE in the recurrence; memory: w tokens with their log-importance, and S in float32.
    """

    LONGEST_LOG_IMPORTANCE = 6
    SHORTEST_DECAY_TIME = 8  # tokens
    LEAST_MASS = 1e-30  # of Z; there is no recurrent part below it

    def __init__(self, config, layer):
        super().__init__(config, layer)
        H, G, D, M = config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.hidden_size
        self.w_q, self.b_q = nn.Parameter(torch.empty(H, D, D)), nn.Parameter(torch.empty(H, D))
        self.w_k, self.b_k = nn.Parameter(torch.empty(G, D, D)), nn.Parameter(torch.empty(G, D))
        self.log_tau = nn.Parameter(torch.empty(G, 2 * D))
        self.w_importance = nn.Parameter(torch.empty(M, G))
        self.w_mix, self.b_mix = nn.Parameter(torch.empty(M, H)), nn.Parameter(torch.empty(H))
        self.logit_scale = 16 / math.sqrt(M)

    @staticmethod
    def kept_keys(window_keys):
        # The oldest of them is the one that the next token makes leave the window.
        return window_keys

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
        log_gate = log_decay[None, :, None].expand(B, G, T, 2 * D)
        if memory.state is None:
            memory.state = torch.zeros(B, G, 2 * D, D + 1, dtype=torch.float32, device=q.device)
        out, memory.state = gated_scan(
            self.feature_map(q, self.w_q, self.b_q), self.leaving(features, T), self.leaving(values, T), log_gate,
            memory.state,
        )
        return out

    def leaving(self, x, T):
        """[B, G, S, n] of all tokens -> [B, G, T, n] of those that leave the window with each new token; 0: none."""
        return F.pad(x, (0, 0, self.window_keys, 0))[:, :, x.shape[2] - T : x.shape[2]]

    @staticmethod
    def feature_map(x, w, b):
        z = x @ w.float() + b.float()[:, None]
        return torch.cat([z, -z], dim=-1).softmax(dim=-1)


MIXERS = {"softmax": WindowMixer, "window": WindowMixer, "liger-gla": LigerGlaMixer, "tigon": TigonMixer}


def make_memory(config, layer):
    return LayerMemory(MIXERS[config.mixer_of_layer(layer)].kept_keys(config.window_of_layer(layer)))


def make_mixer(config, layer):
    return MIXERS[config.mixer_of_layer(layer)](config, layer)
