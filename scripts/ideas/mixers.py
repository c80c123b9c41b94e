"""Variants of the recipe `tigon`'s mixer: a window and a recurrence under one denominator.

Shapes as in blocks.py, M hidden channels. The far part works in blocks of `window_keys` tokens, so that the key that enters the
state with token i lies exactly one block before it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from blocks import (
    MIN_MASS,
    Features,
    attend,
    balanced_coordinates,
    block_states,
    far_additive,
    far_delta,
    gather_tokens,
    inverse_frequencies,
    key_blocks,
    mass_before,
    mean_rotation,
    one_block_later,
    per_key_block,
    query_blocks,
    rotate,
    rows_of,
    wide,
)


@dataclass(frozen=True)
class Options:
    """What an idea changes. The defaults are the recipe."""

    window_keys: int = 64
    # Features: softmax of [z; -z]; taylor: 1, z, z zᵀ/2; outer: the product of softmax vectors.
    features: str = "softmax"
    channels: int = 128
    rank: int = 0  # of the feature map of "softmax"; 0: a full matrix
    outer: tuple = ()  # channels of the factors
    balanced_maps: bool = False  # maps of full rank start as balanced coordinates of far q·k, as those of other ranks and features do
    map_scale: float = 1.0  # of the maps at the start
    temperature: bool = False  # a learned scale of z for each query head
    # State: add; delta-values (values are corrected, the mass adds up); erase (both fade along a new key).
    rule: str = "add"
    rate: str = "token"  # the rate of the delta rules: from x, or one a head
    centred: bool = False  # erase along the key's features less their mean
    decay: str = "channel"  # or head
    decay_times: tuple = (512,)  # at the start, taken by channels in turn
    gate: bool = False  # a further decay a KV head, from x
    # RoPE of the window, and of what the features see.
    rope_scale: float = 1.0  # times the teacher's base
    rope_learned: bool = False
    rope_dynamic: int = 0  # from this position on the base grows with the position (NTK)
    feature_rope_scale: float = 0.0  # 0: none
    # Eviction: a ring of blocks of a quarter window; all but kept_blocks hold the latest tokens.
    kept_blocks: int = 0
    keep_by_x: bool = False
    keep_by_mass: bool = False
    keep_age: float = 128.0  # tokens of age that count as one unit of log-importance
    # Output.
    sink: bool = False  # a learned term of the denominator for each query head
    far_map: bool = False  # a linear map of the far part's output for each query head
    mix_slope: bool = False  # learned slopes of log Z and of the window's log-sum-exp in the mixing
    calibrate_mix: bool = False  # the weights of the mixing from x by least squares

    @property
    def feature_channels(self):
        if self.features == "taylor":
            return 1 + self.rank + self.rank * (self.rank + 1) // 2
        return math.prod(self.outer) if self.features == "outer" else self.channels

    def state_kib(self, head_dim):
        """KiB a layer and KV head: keys and values in bf16, numbers a token and the state in float32."""
        numbers = 1  # log-importance
        numbers += self.rule != "add" and self.rate == "token"
        numbers += (1 + self.keep_by_x + self.keep_by_mass) if self.kept_blocks else 0  # position, key's bonus, mass
        ring = self.window_keys * (2 * head_dim * 2 + 4 * numbers)
        return (ring + self.feature_channels * (head_dim + 1) * 4) / 1024


class Mixer(nn.Module):
    """One layer's mixer; parameters in float32."""

    def __init__(self, options, hidden, heads, groups, dim, rope_base, layer=0):
        super().__init__()
        self.options, self.groups, self.dim, self.rope_base = options, groups, dim, rope_base
        self.repeat = heads // groups
        self.logit_scale = 16 / math.sqrt(hidden)
        E = options.feature_channels
        self.features_q = Features(options, heads, dim, seed=layer)
        self.features_k = Features(options, groups, dim, seed=layer)
        times = torch.tensor(options.decay_times, dtype=torch.float32).log()
        log_tau = times.repeat(-(-E // len(times)))[:E].repeat(groups, 1)
        self.log_tau = nn.Parameter(log_tau if options.decay == "channel" else log_tau[:, :1].clone())  # [G, E or 1]
        self.w_importance = nn.Parameter(torch.zeros(hidden, groups))
        self.w_mix = nn.Parameter(torch.zeros(hidden, heads))
        self.b_mix = nn.Parameter(torch.zeros(heads))
        if options.temperature:
            self.log_temperature = nn.Parameter(torch.zeros(heads))
        if options.rule != "add":
            if options.rate == "token":
                self.w_rate = nn.Parameter(torch.zeros(hidden, groups))
            start = 0.0 if options.rule == "delta-values" else -4.0 if options.centred else -6.0
            if options.rate == "head" or options.rule == "erase":
                self.b_rate = nn.Parameter(torch.full((groups,), start))
        if options.gate:
            self.w_gate = nn.Parameter(torch.zeros(hidden, groups))
            self.b_gate = nn.Parameter(torch.full((groups,), -6.0))
        if options.rope_learned:
            self.rope_shift = nn.Parameter(torch.zeros(dim // 2))
        if options.keep_by_x:
            self.w_keep = nn.Parameter(torch.zeros(hidden, groups))
        if options.sink:
            self.sink = nn.Parameter(torch.zeros(heads))
        if options.far_map:
            self.far_map = nn.Parameter(torch.eye(dim).repeat(heads, 1, 1))
        if options.mix_slope:
            self.mix_slope = nn.Parameter(torch.zeros(heads, 2))

    # What a token says of itself.

    def from_hidden(self, x, weight):
        """x [B, T, M] → [B, T, heads]."""
        return wide(x) @ weight * self.logit_scale

    def log_decay(self):
        """[G, E]."""
        tau = self.log_tau.exp().clamp(min=8.0)
        return (-1 / tau).expand(-1, self.options.feature_channels)

    def feature_rotation(self, z):
        """z [B, T, heads, D], turned if the features see RoPE."""
        if not self.options.feature_rope_scale:
            return z
        return rotate(z, self.angles(z, self.rope_base * self.options.feature_rope_scale))

    def query_features(self, q):
        temperature = (4 * self.log_temperature).exp() if self.options.temperature else None
        return self.features_q(self.feature_rotation(q), temperature)

    def key_features(self, x, k):
        """φk times the importance: [B, T, G, E]."""
        log_importance = self.from_hidden(x, self.w_importance).clamp(-6, 6)
        return self.features_k(self.feature_rotation(k)) * log_importance.exp()[..., None]

    def log_rate(self, x):
        """[B, T, G]: what the delta rule's rate is made of."""
        rate = self.from_hidden(x, self.w_rate) if self.options.rate == "token" else wide(x).new_zeros(*x.shape[:2], self.groups)
        return rate + 4 * self.b_rate if self.options.rate == "head" else rate + getattr(self, "b_rate", 0.0)

    def gate(self, x):
        """[B, T, G], at most 0."""
        return -F.softplus(self.from_hidden(x, self.w_gate) + self.b_gate) if self.options.gate else None

    # The window.

    def angles(self, x, base):
        """[T, 1, D/2] of x [B, T, heads, D]."""
        wanted = torch.float64 if x.dtype == torch.float64 else torch.float32
        frequencies = inverse_frequencies(base, self.dim, x.device, wanted)
        return torch.arange(x.shape[1], device=x.device, dtype=wanted)[:, None, None] * frequencies

    def window_angles(self, x):
        angles = self.angles(x, self.rope_base * self.options.rope_scale)
        return angles * self.rope_shift.exp() if self.options.rope_learned else angles

    def window_scores(self, q, k):
        """[B, G, N, R, C, 2 C]: scores with the block before and the own one, −inf outside of the window."""
        C = self.options.window_keys
        if self.options.rope_dynamic:  # a block of queries turns its keys by its own base
            with_previous = lambda x: torch.cat([one_block_later(x), x], dim=3)
            q, k = query_blocks(q, self.groups, C), with_previous(key_blocks(k, C))  # [B, G, N, 2 C, D]
            length = torch.arange(1, q.shape[2] + 1, device=q.device, dtype=wide(q).dtype) * C
            growth = (length / self.options.rope_dynamic).clamp(min=1) ** (self.dim / (self.dim - 2))
            base = self.rope_base * self.options.rope_scale * growth
            frequencies = inverse_frequencies(base, self.dim, q.device, wide(q).dtype)  # [N, D/2]
            angles = torch.arange(2 * C, device=q.device)[:, None] * frequencies[:, None]  # [N, 2 C, D/2]
            q, k = rotate(q, angles[:, None, C:]), rotate(k, angles)
        else:
            angles = self.window_angles(q)
            q, k = query_blocks(rotate(q, angles), self.groups, C), key_blocks(rotate(k, angles), C)
            k = torch.cat([one_block_later(k), k], dim=3)
        scores = per_key_block(q, k.mT) / math.sqrt(self.dim)
        i, j = torch.arange(C, device=q.device)[:, None] + C, torch.arange(2 * C, device=q.device)
        seen = (j <= i) & (j > i - C)
        seen = seen.repeat(scores.shape[2], 1, 1)
        seen[0] &= j >= C
        return scores.masked_fill(~seen[:, None], float("-inf"))

    def window(self, x, q, k, v):
        """Output [B, G, N, R, C, D] and log-sum-exp [B, G, N, R, C] of what is kept exactly; which tokens enter the state where."""
        scores = self.window_scores(q, k)
        v = key_blocks(wide(v), self.options.window_keys)
        return *attend(scores, torch.cat([one_block_later(v), v], dim=3)), None

    # The far part.

    def far_sums(self, x, q, k, v, entering=None):
        """[N, Z] of the far part, [B, G, N, R, C, D+1]."""
        C, options = self.options.window_keys, self.options
        log_decay = self.log_decay()
        phi_q = query_blocks(self.query_features(q), self.groups, C)
        own_k = key_blocks(self.key_features(x, k), C)
        phi_k = one_block_later(own_k)
        values = one_block_later(key_blocks(wide(v), C))
        values = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        if options.rule == "add":
            gate = self.gate(x)
            return far_additive(phi_q, phi_k, values, log_decay, None if gate is None else key_blocks(gate, C))
        rate = one_block_later(key_blocks(self.log_rate(x), C))
        if options.rule == "erase":  # S ← (1 − β d dᵀ) diag(a) S + φk [v; 1]ᵀ
            centre = own_k.mean(-1, keepdim=True) if options.centred else 0.0
            direction = one_block_later(F.normalize(own_k - centre, dim=-1, eps=1e-9))
            return far_delta(phi_q, phi_k, values, direction, rate.sigmoid(), log_decay)
        # The value read at φk becomes what it were if the token weighed γ times as much; the mass is not touched.
        gamma = rate.clamp(-3, 3).exp()
        before, own = mass_before(phi_k, log_decay), phi_k.square().sum(-1)
        after = before + gamma * own + 1e-12
        weighted = values[..., :-1] * (gamma * (before + own) / after)[..., None]
        top = far_delta(phi_q, phi_k, weighted, phi_k, (gamma - 1) / after, log_decay)
        return torch.cat([top, far_additive(phi_q, phi_k, values[..., -1:], log_decay)], dim=-1)

    def mass_floor(self):
        return 1e-4 if self.options.rule == "erase" else MIN_MASS  # an erased mass can be negative

    def has_past(self, n):
        """[N, 1, 1]: whether a block's state holds anything."""
        return (n > 0)[:, None, None]

    def forward(self, x, q, k, v, far=True):
        """x [B, T, M], q [B, T, H, D], k and v [B, T, G, D] → [B, T, H D] in x's dtype."""
        near, lse, entering = self.window(x, q, k, v)
        per_head = lambda p: p.unflatten(0, (self.groups, 1, -1))  # [H, *] → [G, 1, R, *]
        if self.options.sink:
            sink = 4 * per_head(self.sink)[..., None]
            near = near * (lse - sink).sigmoid()[..., None]
            lse = torch.logaddexp(lse, sink)
        if not far:
            return rows_of(near).to(x.dtype)
        sums = self.far_sums(x, q, k, v, entering)
        mass = sums[..., -1].clamp(min=self.mass_floor())
        away = sums[..., :-1] / mass[..., None]
        if self.options.far_map:
            away = away @ per_head(self.far_map)
        log_mix = query_blocks(self.from_hidden(x, self.w_mix) + self.b_mix, self.groups, mass.shape[4])
        log_mass = mass.log()
        if self.options.mix_slope:
            slope = 1 + 4 * per_head(self.mix_slope)[..., None, :]
            log_mass, lse = log_mass * slope[..., 0], lse * slope[..., 1]
        blocks = torch.arange(mass.shape[2], device=x.device)
        logit = (log_mix + log_mass - lse).masked_fill(~self.has_past(blocks), -1e4)
        return rows_of(near + logit.sigmoid()[..., None] * (away - near)).to(x.dtype)

    # Calibration.

    def ring_mask(self, x, q, k):
        """[B or 1, G or 1, T, T]: whether query i has key j in its window."""
        age = torch.arange(x.shape[1], device=x.device)
        age = age[:, None] - age
        return ((age >= 0) & (age < self.options.window_keys))[None, None]

    @torch.no_grad()
    def calibrate(self, x, q, k, v):
        """Sets b_k, b_mix and the maps that are made of balanced coordinates from the teacher's q and k."""
        w, T = self.options.window_keys, x.shape[1]
        turned_q, turned_k = self.feature_rotation(wide(q)), self.feature_rotation(wide(k))
        mean = turned_k.mean((0, 1))  # [G, D]
        if self.options.balanced_maps or self.options.rank or self.options.outer:
            self.set_balanced_maps(turned_q, turned_k - mean)
        self.features_k.b.copy_(-torch.einsum("gd,gde->ge", mean, self.features_k.matrix()))

        first = min(2 * w, (w + T) // 2)
        wanted = []  # log M − log Z of every row, [T − first, H]
        angles = self.angles(q, self.rope_base)
        for row in range(x.shape[0]):
            one = [part[row : row + 1] for part in (x, q, k, v)]
            turned = query_blocks(rotate(one[1], angles), self.groups, T)[:, :, 0]  # [1, G, R, T, D]
            scores = turned @ rotate(one[2], angles).movedim(2, 1)[:, :, None].mT / math.sqrt(self.dim)
            past = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            beyond = past & ~self.ring_mask(*one[:3])
            log_mass = scores[:, :, :, first:].masked_fill(~beyond[:, :, None, first:], float("-inf")).logsumexp(-1)
            mine = rows_of(self.far_sums(*one)[..., -1:])[0, first:]  # [T − first, H]
            wanted.append(log_mass[0].flatten(0, 1).mT - mine.clamp(min=self.mass_floor()).log())
        wanted = torch.cat(wanted)
        self.b_mix.copy_(wanted.mean(0))
        if self.options.calibrate_mix:
            seen = wide(x[:, first:]).flatten(0, 1).double() * self.logit_scale
            centre = seen.mean(0)
            gram = (seen - centre).mT @ (seen - centre) / len(seen)
            gram += 0.1 * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
            weight = torch.linalg.solve(gram, (seen - centre).mT @ (wanted - wanted.mean(0)).double() / len(seen))
            self.w_mix.copy_(weight)
            self.b_mix.sub_((centre @ weight).to(self.b_mix.dtype))

    def set_balanced_maps(self, q, k):
        """Maps whose inner product is the teacher's q·k with RoPE, in the mean over distances from one window to eight."""
        distances = torch.arange(self.options.window_keys, 8 * self.options.window_keys, device=q.device)
        form = mean_rotation(distances, inverse_frequencies(self.rope_base, self.dim, q.device))
        w_q, w_k, energy = balanced_coordinates(q.unflatten(2, (self.groups, -1)).flatten(0, 1), k.flatten(0, 1), form)
        width = self.features_k.w.shape[-1]
        scale = torch.full_like(energy[:, :1], self.options.map_scale)
        if self.options.features == "taylor":  # x·y is q·k/√D where that is less than 1 in the mean square
            spread = energy[:, :width].square().sum(-1, keepdim=True) / self.dim
            scale = scale * self.dim**-0.25 * spread.clamp(min=1) ** -0.25
        self.features_q.w.copy_((w_q[..., :width] * scale[..., None]).repeat_interleave(self.repeat, 0))
        self.features_k.w.copy_(w_k[..., :width] * scale[..., None])


class EvictingMixer(Mixer):
    """A ring of blocks of a quarter of its tokens: the own block, the ones before it, and the most important older tokens.

    What is kept changes between blocks only: a token that leaves the latest blocks stays if it is among the most important of all
    that left, less one unit for every keep_age tokens of age; what does not stay, or stays no longer, enters the state there.
    """

    def __init__(self, options, *rest, **named):
        super().__init__(options, *rest, **named)
        self.block = options.window_keys // 4
        self.before = 3 - options.kept_blocks  # whole blocks before the own one that are kept whatever they hold
        self.kept = options.kept_blocks * self.block

    def recent_keys(self, x):
        """[B, T, G, *] → [B, G, N, (before+1) C, *]: the blocks before and the own one."""
        parts = [key_blocks(x, self.block)]
        for _ in range(self.before):
            parts.insert(0, one_block_later(parts[0]))
        return torch.cat(parts, dim=3)

    def recent_scores(self, q, k):
        """[B, G, N, R, C, (before+1) C] with the latest blocks' keys; −inf what is not there."""
        q, k = query_blocks(q, self.groups, self.block), self.recent_keys(k)
        scores = per_key_block(q, k.mT) / math.sqrt(self.dim)
        C, n = self.block, torch.arange(q.shape[2], device=q.device)[:, None, None]
        j = torch.arange(k.shape[3], device=q.device)
        seen = (j <= torch.arange(C, device=q.device)[:, None] + self.before * C) & (j >= (self.before - n) * C)
        return scores.masked_fill(~seen[:, None], float("-inf"))

    @torch.no_grad()
    def mass_received(self, scores):
        """log of the mean attention [B, T, G] that a token got from later tokens while it was among the latest."""
        C, before = self.block, self.before
        given = scores.softmax(-1).mean(3).unflatten(-1, (before + 1, C))  # [B, G, N, C, slot, C]
        given[..., before, :] *= 1 - torch.eye(C, device=scores.device, dtype=scores.dtype)
        given = given.sum(3)  # [B, G, N, slot, C]
        total = sum(F.pad(given[:, :, back:, before - back], (0, 0, 0, back)) for back in range(before + 1))
        askers = torch.arange(C - 1, -1, -1, device=scores.device) + before * C
        return (total / askers.clamp(min=1) + 1e-6).log().flatten(2).mT

    def plan(self, x, scores):
        """Who is kept at each block and who enters the state there: two pairs of tokens [B, G, N, ·] and whether they are there."""
        T, C = x.shape[1], self.block
        at = torch.arange(T, device=x.device)
        importance = at[:, None] / self.options.keep_age + torch.zeros(*x.shape[:2], self.groups, device=x.device)  # [B, T, G]
        if self.options.keep_by_x:
            importance = importance + self.bonus(x).detach()
        if self.options.keep_by_mass:
            importance = importance + self.mass_received(scores)
        rank = importance.mT.argsort(-1).argsort(-1)  # [B, G, T], no two alike
        left = at < (torch.arange(T // C, device=x.device)[:, None] - self.before) * C  # [N, T]
        best = torch.where(left, rank[:, :, None] + 1, 0).topk(self.kept, dim=-1)
        kept, is_kept = best.indices, best.values > 0
        stays = torch.zeros(*kept.shape[:3], T, device=x.device, dtype=torch.bool).scatter(-1, kept, is_kept)
        gone = left & ~stays
        new = gone & ~one_block_later(gone)
        entering = new.int().topk(C, dim=-1)
        return (kept, is_kept), (entering.indices, entering.values > 0)

    def bonus(self, x):
        """[B, T, G]: what is added to the scores of a kept key, and to its importance."""
        return self.from_hidden(x, self.w_keep).clamp(-6, 6)

    def ring(self, x, q, k):
        angles = self.window_angles(q)
        q, k = rotate(q, angles), rotate(k, angles)
        scores = self.recent_scores(q, k)
        return q, k, scores, *self.plan(x, scores)

    def window(self, x, q, k, v):
        q, k, scores, (kept, is_kept), entering = self.ring(x, q, k)
        kept_scores = per_key_block(query_blocks(q, self.groups, self.block), gather_tokens(k, kept).mT) / math.sqrt(self.dim)
        if self.options.keep_by_x:
            kept_scores = kept_scores + gather_tokens(self.bonus(x)[..., None], kept)[:, :, :, None, None, :, 0]
        kept_scores = kept_scores.masked_fill(~is_kept[:, :, :, None, None], float("-inf"))
        values = torch.cat([self.recent_keys(wide(v)), gather_tokens(wide(v), kept)], dim=3)
        return *attend(torch.cat([scores, kept_scores], dim=-1), values), entering

    def far_sums(self, x, q, k, v, entering=None):
        entering, enters = entering or self.ring(x, q, k)[-1]
        log_decay, C = self.log_decay(), self.block
        phi_k = gather_tokens(self.key_features(x, k), entering) * enters[..., None]  # [B, G, N, C, E]
        values = gather_tokens(wide(v), entering)
        values = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        added = phi_k.mT @ values
        states = added + (log_decay * C).exp()[:, None, :, None] * block_states(log_decay, C, added)
        aged = (log_decay[:, None] * torch.arange(C, device=x.device)[:, None]).exp()  # [G, C, E]
        phi_q = query_blocks(self.query_features(q), self.groups, C) * aged[:, None, None]
        return per_key_block(phi_q, states)

    def has_past(self, n):
        return (n > 3)[:, None, None]

    def ring_mask(self, x, q, k):
        T, C = x.shape[1], self.block
        kept, is_kept = self.ring(x, q, k)[-2]
        stays = torch.zeros(*kept.shape[:3], T, device=x.device, dtype=torch.bool).scatter(-1, kept, is_kept)
        at = torch.arange(T, device=x.device)
        recent = (at <= at[:, None]) & (at >= (at[:, None] // C - self.before) * C)
        return stays.repeat_interleave(C, 2) | recent


def make_mixer(options, *shape, **named):
    return (EvictingMixer if options.kept_blocks else Mixer)(options, *shape, **named)
