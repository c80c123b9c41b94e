"""Block layouts, RoPE, feature maps and the sums of a decaying state, in block-parallel PyTorch.

B rows of T tokens, G KV heads, R query heads a KV head, H = G R, D the head dimension, E feature channels. Rows are cut into N
blocks of C tokens: queries [B, G, N, R, C, *], keys [B, G, N, C, *]. Everything is float32 (float64 in, float64 out).
"""

import torch
import torch.nn.functional as F
from torch import nn

MIN_MASS = 1e-9  # of a denominator before its logarithm is taken


def wide(x):
    return x if x.dtype == torch.float64 else x.float()


def key_blocks(x, block):
    """[B, T, G, *] → [B, G, N, C, *]."""
    return x.unflatten(1, (-1, block)).movedim(3, 1)


def query_blocks(x, groups, block):
    """[B, T, H, *] → [B, G, N, R, C, *]."""
    return x.unflatten(2, (groups, -1)).unflatten(1, (-1, block)).movedim((3, 4), (1, 3))


def per_key_block(x, y):
    """x [B, G, N, R, C, X] times y [B, G, N, X, Y] → [B, G, N, R, C, Y]."""
    return (x.flatten(3, 4) @ y).unflatten(3, x.shape[3:5])


def rows_of(x):
    """[B, G, N, R, C, D] → [B, T, H D]."""
    return x.movedim((1, 3), (3, 4)).flatten(3).flatten(1, 2)


def one_block_later(x):
    """[B, G, N, ...] → the same one block later; the first is zero."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], dim=2)


def rotate(x, angles):
    """RoPE of x [..., D] by angles [..., D/2], as Llama pairs channels."""
    low, high = wide(x).chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def inverse_frequencies(base, dim, device, dtype=torch.float32):
    """base^(−2d/dim); base: a number or a tensor [...]; → [..., dim/2]."""
    if isinstance(base, torch.Tensor):
        base = base[..., None]
    return base ** (-torch.arange(0, dim, 2, device=device, dtype=dtype) / dim)


def mean_rotation(distances, frequencies):
    """W [D, D]: the mean over distances i − j of RoPE's score is q_iᵀ W k_j. Channels that turn fast vanish from it."""
    angles = distances.double()[:, None] * frequencies.double()
    cos, sin = (part.mean(0).diag_embed() for part in (angles.cos(), angles.sin()))
    return torch.cat([torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)])


def balanced_coordinates(q, k, form):
    """Maps (w_q, w_k) [G, D, D] with w_q w_kᵀ = form, coordinates in falling order of what they add to (qᵀ form k)², both sides alike.

    q [n, G, R, D], k [n, G, D] without its mean, form [D, D]. Returns the maps and each coordinate's mean square [G, D].
    """
    k, q = k.double(), q.double()
    roots = []
    for moment in (
        torch.einsum("ngrd,ngre->gde", q, q) / (q.shape[0] * q.shape[2]),
        torch.einsum("ngd,nge->gde", k, k) / k.shape[0],
    ):
        values, vectors = torch.linalg.eigh(moment)
        values = values.clamp(min=1e-6 * values.max())[:, None]
        roots.append([vectors * values**p @ vectors.mT for p in (0.5, -0.5)])
    (root_q, inverse_q), (root_k, inverse_k) = roots
    left, energy, right = torch.linalg.svd(root_q @ form @ root_k)
    side = energy[:, None] ** 0.5
    return inverse_q @ left * side, inverse_k @ right.mT * side, energy


class Features(nn.Module):
    """φ of the heads of q or of k: z = x w + b, then softmax, Taylor or outer channels."""

    def __init__(self, options, heads, dim, seed):
        super().__init__()
        self.options = options
        width = {"softmax": options.channels // 2, "taylor": options.rank, "outer": sum(options.outer) // 2}[options.features]
        self.low_rank = options.features == "softmax" and options.rank > 0
        if self.low_rank:  # directions at random, the same for q and k
            up = torch.randn(options.rank, width, generator=torch.Generator().manual_seed(seed))
            self.up = nn.Parameter(F.normalize(up, dim=0).repeat(heads, 1, 1))  # [heads, r, z]
        first = options.rank if self.low_rank else width
        wide_eye = torch.eye(dim).repeat(1, -(-first // dim))[:, :first]
        self.w = nn.Parameter(options.map_scale * wide_eye.repeat(heads, 1, 1))  # [heads, D, z or r]
        self.b = nn.Parameter(torch.zeros(heads, width))

    def matrix(self):
        """[heads, D, z]."""
        return self.w @ self.up if self.low_rank else self.w

    def forward(self, x, temperature=None):
        """x [B, T, heads, D] → [B, T, heads, E]."""
        z = torch.einsum("bthd,hde->bthe", wide(x), self.matrix()) + self.b
        if temperature is not None:
            z = z * temperature[:, None]
        if self.options.features == "softmax":
            return torch.cat([z, -z], dim=-1).softmax(-1)
        if self.options.features == "taylor":
            i, j = torch.triu_indices(z.shape[-1], z.shape[-1], device=z.device)
            square = z[..., i] * z[..., j] * (1 + (i == j).to(z.dtype)) ** -0.5
            return torch.cat([torch.ones_like(z[..., :1]), z, square], dim=-1)
        first, *rest = (torch.cat([part, -part], dim=-1).softmax(-1) for part in z.split([m // 2 for m in self.options.outer], dim=-1))
        for part in rest:
            first = (first[..., :, None] * part[..., None, :]).flatten(-2)
        return first


def block_states(log_decay, block, added, gate_sums=None):
    """What the state is before each block: S_n = Σ_{m<n} a^{C(n−1−m)} added_m.

    log_decay [G, E], added [B, G, N, E, V], gate_sums [B, G, N] of the further log-decay of each block.
    """
    count = added.shape[2]
    at = torch.arange(count, device=added.device)
    between = at[:, None] - 1 - at  # [n, m], blocks between
    weight = log_decay[:, :, None, None] * (block * between.clamp(min=0))
    seen = between >= 0
    if gate_sums is None:
        return torch.einsum("genm,bgmev->bgnev", weight.exp() * seen, added)
    sums = gate_sums.cumsum(-1)
    further = (sums - gate_sums)[..., :, None] - sums[..., None, :]  # of the blocks between m and n
    weight = (weight + further.masked_fill(~seen, 0)[:, :, None]).exp() * seen
    return torch.einsum("bgenm,bgmev->bgnev", weight, added)


class FarTerms:
    """Products of features within a block under a decay a^t, t = 1..C, relative to the block's middle (no overflow)."""

    def __init__(self, log_decay, block):
        step = torch.arange(1, block + 1, device=log_decay.device) - block / 2
        self.log_decay, self.block = log_decay, block
        self.rise = (log_decay[:, None, None] * step[:, None]).exp()  # [G, 1, C, E]
        self.fall = 1 / self.rise
        self.half = (log_decay * (block / 2)).exp()[:, None, :, None]  # [G, 1, E, 1]: middle to end
        self.causal = torch.ones(block, block, dtype=torch.bool, device=log_decay.device).tril()


def far_additive(phi_q, phi_k, values, log_decay, gate=None):
    """φqᵀ S with S_i = diag(a) e^{gate_i} S_{i−1} + φk_i values_iᵀ, of keys placed where they enter.

    phi_q [B, G, N, R, C, E], phi_k [B, G, N, C, E], values [B, G, N, C, V], gate [B, G, N, C] → [B, G, N, R, C, V].
    """
    terms = FarTerms(log_decay, phi_k.shape[3])
    queries = phi_q * terms.rise[:, :, None]
    keys = phi_k * terms.fall
    scores = per_key_block(queries, keys.mT)  # [B, G, N, R, C, C]
    if gate is None:
        scores = scores * terms.causal
        added = terms.half * (keys.mT @ values)
        states = terms.half * block_states(log_decay, terms.block, added)
        return per_key_block(scores, values) + per_key_block(queries, states)
    sums = gate.cumsum(-1)
    between = (sums[..., :, None] - sums[..., None, :]).masked_fill(~terms.causal, 0).exp() * terms.causal
    scores = scores * between[:, :, :, None]
    added = terms.half * ((keys * (sums[..., -1:] - sums).exp()[..., None]).mT @ values)
    states = terms.half * block_states(log_decay, terms.block, added, sums[..., -1])
    return per_key_block(scores, values) + per_key_block(queries, states) * sums.exp()[:, :, :, None, :, None]


def mass_before(phi_k, log_decay):
    """s_i = φk_iᵀ diag(a) S_{i−1} of the additive mass S; phi_k [B, G, N, C, E] → [B, G, N, C]."""
    terms = FarTerms(log_decay, phi_k.shape[3])
    rising, falling = phi_k * terms.rise, phi_k * terms.fall
    within = (rising @ falling.mT).tril(-1).sum(-1)
    states = terms.half * block_states(log_decay, terms.block, terms.half * falling.sum(3)[..., None])
    return within + (rising @ states)[..., 0]


def far_delta(phi_q, phi_k, values, direction, strength, log_decay):
    """φqᵀ S with S_i = P_i + φk_i values_iᵀ − strength_i d_i (d_iᵀ P_i), P_i = diag(a) S_{i−1}.

    Shapes as in far_additive; direction as phi_k, strength [B, G, N, C]. Within a block the removed rows
    r_i = strength_i d_iᵀ P_i solve a unit triangular system (the UT form); between blocks S → M S + added.
    """
    terms = FarTerms(log_decay, phi_k.shape[3])
    queries, keys = phi_q * terms.rise[:, :, None], phi_k * terms.fall
    rising, falling = direction * terms.rise, direction * terms.fall
    rate = strength[..., None]
    system = rate * (rising @ falling.mT).tril(-1)
    wanted = rate * torch.cat([rising, (rising @ keys.mT).tril(-1) @ values], dim=-1)
    solved = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    of_state, own = solved.split([phi_k.shape[-1], values.shape[-1]], dim=-1)  # r = of_state (half S) + own
    added = terms.half * (keys.mT @ values - falling.mT @ own)
    move = torch.diag_embed(terms.half[..., 0] ** 2) - terms.half * (falling.mT @ of_state) * terms.half.mT
    state = torch.zeros_like(added[:, :, 0])
    states = [state]
    for n in range(added.shape[2] - 1):
        state = torch.baddbmm(added[:, :, n].flatten(0, 1), move[:, :, n].flatten(0, 1), state.flatten(0, 1)).view_as(state)
        states.append(state)
    states = terms.half * torch.stack(states, dim=2)
    removed = of_state @ states + own
    causal = terms.causal
    written = per_key_block(per_key_block(queries, keys.mT) * causal, values)
    erased = per_key_block(per_key_block(queries, falling.mT) * causal, removed)
    return written - erased + per_key_block(queries, states)


def attend(scores, values):
    """Softmax over the last dimension of scores [B, G, N, R, C, K], values [B, G, N, K, D]: output and log-sum-exp."""
    lse = scores.logsumexp(-1)
    return per_key_block((scores - lse[..., None]).exp(), values), lse


def gather_tokens(x, tokens):
    """x [B, T, G, V], tokens [B, G, N, K] → [B, G, N, K, V]."""
    flat = tokens.flatten(2)[..., None].expand(-1, -1, -1, x.shape[-1])
    return x.movedim(2, 1).gather(2, flat).unflatten(2, tokens.shape[2:])
