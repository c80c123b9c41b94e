"""scripts/ideas/mixers.py in float64 at a tiny size: every variant against a loop over tokens, causality, and gradients."""

import sys

import torch
import torch.nn.functional as F
from support import SOURCE

sys.path.insert(0, str(SOURCE / "scripts" / "ideas"))
from ideas import IDEAS
from blocks import balanced_coordinates, inverse_frequencies, mean_rotation, rotate
from mixers import Options, make_mixer

HIDDEN, HEADS, GROUPS, DIM, WINDOW, ROWS, TOKENS = 12, 4, 2, 8, 16, 2, 96
SMALL = {  # the ideas' options at this size
    "taylor": {"rank": 3},
    "outer": {"outer": (8, 4)},
    "softmax": {"channels": 16},
}


def small(options):
    changes = {"window_keys": WINDOW, "keep_age": 11.0, "rope_dynamic": 40 if options.rope_dynamic else 0}
    changes |= SMALL[options.features]
    if len(options.outer) == 3:
        changes |= {"outer": (4, 4, 2)}
    if options.rank and options.features == "softmax":
        changes |= {"channels": options.channels // 8, "rank": options.rank // 8}
    return Options(**{**options.__dict__, **changes})


def made(options, seed=0):
    """A mixer in float64 whose parameters are moved off their starting values, and its inputs."""
    torch.manual_seed(seed)
    mixer = make_mixer(small(options), HIDDEN, HEADS, GROUPS, DIM, 100.0, layer=seed).double()
    with torch.no_grad():
        for name, p in mixer.named_parameters():
            p += 0.2 * torch.randn_like(p)
            if name == "b_rate":
                p += 0.5  # so that the delta rules do something
            if name == "b_gate":
                p += 4
    x = torch.randn(ROWS, TOKENS, HIDDEN, dtype=torch.float64)
    q = torch.randn(ROWS, TOKENS, HEADS, DIM, dtype=torch.float64)
    k, v = torch.randn(2, ROWS, TOKENS, GROUPS, DIM, dtype=torch.float64)
    return mixer, (x, q, k, v)


def window_turner(mixer, t):
    """A function (vector, position) → the vector as the window of query t sees it turned."""
    o, base = mixer.options, mixer.rope_base * mixer.options.rope_scale
    if o.rope_dynamic:
        length = (t // WINDOW + 1) * WINDOW
        base *= max(1.0, length / o.rope_dynamic) ** (DIM / (DIM - 2))
    frequencies = inverse_frequencies(base, DIM, "cpu", torch.float64)
    if o.rope_learned:
        frequencies = frequencies * mixer.rope_shift.exp()
    return lambda vector, position: rotate(vector, position * frequencies)


def ring_of(mixer, x, q, k, b, g):
    """The sets of tokens in the ring at each token, by the definition told one token after the other."""
    o = mixer.options
    if not o.kept_blocks:
        return [set(range(max(0, t - WINDOW + 1), t + 1)) for t in range(TOKENS)]
    block, before = WINDOW // 4, 3 - o.kept_blocks
    turn = window_turner(mixer, 0)
    importance, rings, kept = {}, [], set()
    given = torch.zeros(TOKENS, TOKENS)  # attention of query i to j among the latest tokens, mean over the heads
    for t in range(TOKENS):
        start = t // block * block
        if t == start:
            for j in range(max(0, start - (before + 1) * block), max(0, start - before * block)):
                importance[j] = j / o.keep_age
                if o.keep_by_x:
                    importance[j] += mixer.bonus(x)[b, j, g].item()
                if o.keep_by_mass:
                    askers = range(j + 1, start)
                    importance[j] += float(torch.log(sum(given[i, j] for i in askers) / len(askers) + 1e-6))
                kept.add(j)
            kept = set(sorted(kept, key=lambda j: -importance[j])[: o.kept_blocks * block])
        latest = range(max(0, start - before * block), t + 1)
        heads = slice(g * mixer.repeat, (g + 1) * mixer.repeat)
        scores = torch.stack([turn(q[b, t, heads], t) @ turn(k[b, j, g], j) for j in latest], -1) / DIM**0.5
        given[t, latest.start : t + 1] = scores.softmax(-1).mean(0)
        rings.append(kept | set(latest))
    return rings


def by_loop(mixer, x, q, k, v):
    """The mixer's output [B, T, H D], one token after the other."""
    o, R = mixer.options, mixer.repeat
    phi_q, phi_k = mixer.query_features(q), mixer.key_features(x, k)
    plain = mixer.features_k(mixer.feature_rotation(k))
    a = mixer.log_decay().exp()
    gate = mixer.gate(x)
    log_mix = mixer.from_hidden(x, mixer.w_mix) + mixer.b_mix
    out = torch.zeros(ROWS, TOKENS, HEADS, DIM, dtype=torch.float64)
    for b in range(ROWS):
        for g in range(GROUPS):
            rings = ring_of(mixer, x, q, k, b, g)
            state = torch.zeros(o.feature_channels, DIM + 1, dtype=torch.float64)
            for t in range(TOKENS):
                state = a[g][:, None] * state
                if gate is not None:
                    state = state * gate[b, t, g].exp()
                for j in sorted((rings[t - 1] if t else set()) - rings[t]):
                    phi, token = phi_k[b, j, g], torch.cat([v[b, j, g], v.new_ones(1)])
                    if o.rule == "erase":
                        direction = F.normalize(plain[b, j, g] - (plain[b, j, g].mean() if o.centred else 0), dim=0)
                        beta = mixer.log_rate(x)[b, j, g].sigmoid()
                        state = state - beta * torch.outer(direction, direction @ state)
                    if o.rule == "delta-values":  # the average read at φ is moved to where a γ times heavier token had moved it
                        gamma, before, own = mixer.log_rate(x)[b, j, g].clamp(-3, 3).exp(), phi @ state[:, -1], phi @ phi
                        wanted = (phi @ state[:, :-1] + gamma * own * v[b, j, g]) / (before + gamma * own)
                        token = torch.cat([(wanted * (before + own) - phi @ state[:, :-1]) / own, v.new_ones(1)])
                    state = state + torch.outer(phi, token)
                turn = window_turner(mixer, t)
                ring = sorted(rings[t])
                kept_before = t // (WINDOW // 4) * (WINDOW // 4) - (3 - o.kept_blocks) * (WINDOW // 4)
                for h in range(g * R, (g + 1) * R):
                    query = turn(q[b, t, h], t)
                    scores = torch.stack([query @ turn(k[b, j, g], j) for j in ring]) / DIM**0.5
                    if o.keep_by_x:
                        scores = scores + torch.stack([mixer.bonus(x)[b, j, g] * (j < kept_before) for j in ring])
                    sums = phi_q[b, t, h] @ state
                    near, mass = scores.exp() @ v[b, ring, g], scores.exp().sum()
                    if o.sink:
                        mass = mass + (4 * mixer.sink[h]).exp()
                    if len(ring) == t + 1:  # nothing has left
                        out[b, t, h] = near / mass
                        continue
                    total = sums[-1].clamp(min=mixer.mass_floor())
                    away = sums[:-1] / total
                    if o.far_map:
                        away = away @ mixer.far_map[h]
                    slope = 1 + 4 * mixer.mix_slope[h] if o.mix_slope else (1.0, 1.0)
                    logit = log_mix[b, t, h] + total.log() * slope[0] - mass.log() * slope[1]
                    out[b, t, h] = near / mass + logit.sigmoid() * (away - near / mass)
    return out.flatten(2)


def test_against_loop():
    for name, idea in IDEAS.items():
        mixer, inputs = made(idea.options)
        with torch.no_grad():
            difference = (mixer(*inputs) - by_loop(mixer, *inputs)).abs().max().item()
        assert difference < 1e-9, f"{name}: {difference}"


def test_gradients_reach_every_parameter():
    for name, idea in IDEAS.items():
        mixer, inputs = made(idea.options)
        inputs = [part.requires_grad_() for part in inputs]
        mixer(*inputs).square().sum().backward()
        for what, tensor in [*mixer.named_parameters(), *zip("xqkv", inputs)]:
            assert tensor.grad is not None and tensor.grad.isfinite().all(), f"{name}: gradient of {what}"
            assert tensor.grad.abs().max() > 1e-12, f"{name}: no gradient of {what}"


def test_gradients_at_the_start_are_finite():
    for name, idea in IDEAS.items():
        _, inputs = made(idea.options)
        mixer = make_mixer(small(idea.options), HIDDEN, HEADS, GROUPS, DIM, 100.0)
        inputs = [part.float() for part in inputs]
        mixer.calibrate(*inputs)
        mixer(*inputs).square().sum().backward()
        for what, p in mixer.named_parameters():
            assert p.isfinite().all() and p.grad.isfinite().all(), f"{name}: {what}"


def test_delta_values_starts_as_the_recipe():
    _, inputs = made(Options())
    start = [make_mixer(small(IDEAS[name].options), HIDDEN, HEADS, GROUPS, DIM, 100.0).double() for name in ("base", "delta-values")]
    assert (start[0](*inputs) - start[1](*inputs)).abs().max() < 1e-9


def test_ring_mask_holds_a_window_of_tokens():
    for name in ("base", "evict-both", "evict-both-16"):
        mixer, (x, q, k, v) = made(IDEAS[name].options)
        mask = mixer.ring_mask(x, q, k).expand(ROWS, GROUPS, -1, -1)
        for g in range(GROUPS):
            for t, ring in enumerate(ring_of(mixer, x, q, k, 0, g)):
                assert set(mask[0, g, t].nonzero().flatten().tolist()) == ring, f"{name}: token {t}"
                assert len(ring) <= WINDOW


def test_balanced_coordinates():
    q, k = torch.randn(500, GROUPS, 2, DIM), torch.randn(500, GROUPS, DIM)
    form = mean_rotation(torch.arange(16, 32), inverse_frequencies(100.0, DIM, "cpu"))
    w_q, w_k, energy = balanced_coordinates(q, k, form)
    assert (w_q @ w_k.mT - form).abs().max() < 1e-9
    for x, w in ((q, w_q[:, None]), (k[:, :, None], w_k[:, None])):  # the coordinates are uncorrelated, of like size
        z = (x.double()[..., None, :] @ w).squeeze(-2).movedim(1, 0).flatten(1, 2)
        assert (z.mT @ z / z.shape[1] - torch.diag_embed(energy)).abs().max() < 1e-4
    assert (energy.diff() <= 0).all()


def test_mean_rotation():
    frequencies = inverse_frequencies(100.0, DIM, "cpu", torch.float64)
    q, k = torch.randn(2, DIM, dtype=torch.float64)
    scores = [rotate(q, 40 * frequencies) @ rotate(k, (40 - distance) * frequencies) for distance in (5, 6, 7)]
    assert (q @ mean_rotation(torch.arange(5, 8), frequencies) @ k - sum(scores) / 3).abs() < 1e-9


def test_taylor_features_are_the_series():
    mixer, (_, q, k, _) = made(IDEAS["taylor-14"].options)
    z_q = q[:, :, :2] @ mixer.features_q.w[0] + mixer.features_q.b[0]
    z_k = k[:, :, :1] @ mixer.features_k.w[0] + mixer.features_k.b[0]
    product = (z_q * z_k).sum(-1)[:, :, 0]
    found = (mixer.features_q(q)[:, :, 0] * mixer.features_k(k)[:, :, 0]).sum(-1)
    assert (found - (1 + product + product**2 / 2)).abs().max() < 1e-9
