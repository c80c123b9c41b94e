"""Softmax attention over a window of tokens: the mixers `softmax`, `window` and `window-sinks`.

Shapes: B batch, T new tokens, S >= T tokens at hand, H query heads, G KV heads, D head size.
"""

import math

import torch
from torch import nn

from .memory_tigon import LayerMemory
from .rotary_tigon import rotate

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


def window_attention(q, k, v, q_positions, k_positions, q_is_real, window_keys, sinks=None):
    """Attention over the last `window_keys` real tokens of the same sequence, and over its sinks.

    k, v and k_positions hold S >= T tokens of which the last T belong to q; k_positions is -1 where
    there is no token (padding, or a window that is not full yet). `sinks`: k, v and k_positions of each
    sequence's first tokens, besides. -> out and sums as `attend` gives them.
    """
    T, S = q.shape[2], k.shape[2]
    outputs, log_sums = [], []
    for start in range(0, T, WINDOW_BLOCK):
        stop = min(start + WINDOW_BLOCK, T)
        last = S - T + stop
        first = max(0, S - T + start - (window_keys - 1))
        keys, values = k[:, :, first:last], v[:, :, first:last]
        q_at = q_positions[:, start:stop, None]  # [B, block, 1]
        k_at = k_positions[:, None, first:last]  # [B, 1, keys]
        visible = (k_at >= 0) & (k_at <= q_at) & (k_at > q_at - window_keys)
        if sinks is not None:
            sink_k, sink_v, sink_positions = sinks
            sink_at = sink_positions[:, None]
            visible = visible & (k_at >= sink_at.shape[2])  # a sink counts once
            visible = torch.cat([(sink_at >= 0) & (sink_at <= q_at), visible], dim=2)
            keys, values = torch.cat([sink_k, keys], dim=2), torch.cat([sink_v, values], dim=2)
        # Padding sees all keys: its output is never used, but must not be NaN.
        visible = visible | ~q_is_real[:, start:stop, None]
        out, log_sum = attend(q[:, :, start:stop], keys, values, visible)
        outputs.append(out)
        log_sums.append(log_sum)
    return torch.cat(outputs, dim=2), torch.cat(log_sums, dim=2)


class WindowMixer(nn.Module):
    """Softmax over the last `window_keys` tokens; over all of them if that is 0."""

    def __init__(self, config, layer):
        super().__init__()
        self.window_keys = config.window_of_layer(layer)

    def make_memory(self):
        # Beside the new token a window of W keys needs W - 1 old ones.
        return LayerMemory(self.window_keys - 1 if self.window_keys > 0 else None)

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        """x [B, T, M] the attention's input; q [B, H, T, D], k and v [B, G, T, D] before RoPE; positions and
        is_real [B, T] -> [B, H, T, D]."""
        seen = memory.extend(k=k, v=v, positions=positions.masked_fill(~is_real, -1))
        return self.attend_window(q, seen, positions, is_real, rotary)[0]

    def attend_window(self, q, seen, positions, is_real, rotary, sinks=None):
        window_keys = self.window_keys or seen["positions"].shape[1]
        rotated_q, rotated_k = rotate(q, positions, rotary), rotate(seen["k"], seen["positions"], rotary)
        return window_attention(
            rotated_q, rotated_k, seen["v"], positions, seen["positions"], is_real, window_keys, sinks
        )


class WindowSinksMixer(WindowMixer):
    """The window, and the first `sinks` tokens of the sequence under the same softmax."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.sinks = config.linearize["sinks"]

    def forward(self, x, q, k, v, positions, is_real, rotary, memory):
        key_positions = positions.masked_fill(~is_real, -1)
        sink_k, sink_v, sink_positions = self.remember_sinks(k, v, key_positions, memory)
        sinks = (rotate(sink_k, sink_positions, rotary), sink_v, sink_positions)
        seen = memory.extend(k=k, v=v, positions=key_positions)
        return self.attend_window(q, seen, positions, is_real, rotary, sinks)[0]

    def remember_sinks(self, k, v, positions, memory):
        """Puts the tokens at positions below `sinks` into the columns of these numbers."""
        B, G, _, D = k.shape
        # One more column takes in everything that is no sink.
        place = positions.masked_fill((positions < 0) | (positions >= self.sinks), self.sinks)
        for name, new in (("sink_k", k), ("sink_v", v)):
            kept = memory.state(name, B, G, self.sinks + 1, D, like=k, dtype=k.dtype)
            memory.states[name] = kept.scatter(2, place[:, None, :, None].expand_as(new), new)
        # Counted from 1, so that a column without a token is at -1.
        kept = memory.state("sink_numbers", B, self.sinks + 1, like=k, dtype=torch.long)
        memory.states["sink_numbers"] = kept.scatter(1, place, positions + 1)
        first = slice(0, self.sinks)
        states = memory.states
        return states["sink_k"][:, :, first], states["sink_v"][:, :, first], states["sink_numbers"][:, first] - 1
