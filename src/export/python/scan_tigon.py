"""Gated linear recurrences in float32.

Shapes: B batch, T tokens, H query heads, D head size, K features, V values, M slots. Other tensors may
have fewer heads than q; L, the most of them, is the number of states. Query heads of one state lie one
after another.
"""

import math

import torch

# Tokens a recurrence takes at once. Within a chunk the decay between every pair of tokens is formed,
# so that only exponents <= 0 occur: memory grows with this number, the length of the loop shrinks.
SCAN_CHUNK = 16


def chunks_of(tokens):
    return [slice(start, min(start + SCAN_CHUNK, tokens)) for start in range(0, tokens, SCAN_CHUNK)]


def spread(x, heads):
    """Each head for as many of `heads` as it serves."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def decays_of(log_gate):
    """Of a chunk's gates [B, L, C, X]: the decay from its start to each token, its own gate included, the
    decay between every pair of tokens (0 towards later ones) [B, L, C, C, X], from each token to the end."""
    since_start = log_gate.cumsum(dim=2)
    between = since_start[:, :, :, None] - since_start[:, :, None]
    length = log_gate.shape[2]
    is_later = torch.ones(length, length, dtype=torch.bool, device=log_gate.device).triu(1)
    between = between.masked_fill(is_later[:, :, None], -math.inf).exp()
    return since_start.exp(), between, (since_start[:, :, -1:] - since_start).exp()


def gated_scan(q, k, v, log_gate, state):
    """S_t = diag(exp(log_gate_t)) S_{t-1} + k_t^T v_t, o_t = q_t S_t.

    q [B, H, T, K]; k [B, heads, T, K]; v [B, heads, T, V]; log_gate [B, heads, T, K or 1];
    state [B, L, K, V] -> o [B, H, T, V], state.
    """
    B, H, T, K = q.shape
    L = state.shape[1]
    q = q.reshape(B, L, H // L, T, K)
    outputs = []
    for here in chunks_of(T):
        qc, kc, vc = q[:, :, :, here], spread(k[:, :, here], L), spread(v[:, :, here], L)
        from_start, between, to_end = decays_of(spread(log_gate[:, :, here], L))
        # What the chunk's tokens read from the state before it, and from each other.
        before = (qc * from_start[:, :, None]) @ state[:, :, None]
        scores = torch.einsum("blrid,blijd,bljd->blrij", qc, between, kc)
        outputs.append(before + scores @ vc[:, :, None])
        total = from_start[:, :, -1:].transpose(-1, -2)
        state = total * state + (kc * to_end).transpose(-1, -2) @ vc
    return torch.cat(outputs, dim=3).view(B, H, T, -1), state


def slot_scores(q, k, write, log_gate, state):
    """S_t = diag(exp(log_gate_t)) S_{t-1} + write_t^T k_t, scores_t = S_t q_t.

    q [B, H, T, D]; k [B, L, T, D]; write and log_gate [B, L, T, M]; state [B, L, M, D]
    -> scores [B, H, T, M], state.
    """
    B, H, T, D = q.shape
    L = state.shape[1]
    q = q.reshape(B, L, H // L, T, D)
    outputs = []
    for here in chunks_of(T):
        qc, kc, wc = q[:, :, :, here], k[:, :, here], write[:, :, here]
        from_start, between, to_end = decays_of(log_gate[:, :, here])
        before = (qc @ state.transpose(-1, -2)[:, :, None]) * from_start[:, :, None]
        products = qc @ kc.transpose(-1, -2)[:, :, None]  # [B, L, R, i, j]
        outputs.append(before + torch.einsum("blrij,blijm,bljm->blrim", products, between, wc))
        total = from_start[:, :, -1:].transpose(-1, -2)
        state = total * state + (wc * to_end).transpose(-1, -2) @ kc
    return torch.cat(outputs, dim=3).view(B, H, T, -1), state
