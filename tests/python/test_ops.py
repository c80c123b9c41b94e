"""Every op through torch.ops.tigon, against a few lines of PyTorch, gradients included."""

import importlib.util
import math

import pytest
import torch
import torch.nn.functional as F
from support import BINARY, SOURCE, check_close

torch.ops.load_library(str(BINARY / "libtigon_ops.so"))
ops = torch.ops.tigon


def normal(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def leaves(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def compare(op, plain, inputs):
    """op and plain take the same tensors and give a tensor or a tuple. plain runs in float64."""
    for dtype, tolerance in ((torch.float64, "kExactMath"), (torch.float32, "kFloat32Op")):
        wide = leaves(*inputs.values())
        narrow = [tensor.detach().to(dtype).requires_grad_() for tensor in wide]
        found, expected = op(*narrow), plain(*wide)
        found = found if isinstance(found, tuple) else (found,)
        expected = expected if isinstance(expected, tuple) else (expected,)
        assert len(found) == len(expected)
        upstream = [normal(*out.shape, seed=100 + i) for i, out in enumerate(expected)]
        for i, (one, other) in enumerate(zip(found, expected)):
            check_close(f"output {i} ({dtype})", one, other, tolerance)
        narrow_upstream = [g.to(out.dtype) for g, out in zip(upstream, found)]
        gradients = torch.autograd.grad(found, narrow, narrow_upstream)
        wanted = torch.autograd.grad(expected, wide, upstream)
        for name, one, other in zip(inputs, gradients, wanted):
            check_close(f"gradient of {name} ({dtype})", one, other, tolerance)


def saved_shapes(call):
    """Shapes of the tensors that autograd saves while `call` runs, views and casts included."""
    shapes = []

    def record(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        call()
    return shapes


def rotate(x, positions, inverse_frequencies, scale=1.0):
    angles = positions[:, None].to(torch.float64) * inverse_frequencies.to(torch.float64)
    angles = torch.cat([angles, angles], -1)[:, None]
    cos, sin = angles.cos() * scale, angles.sin() * scale
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def test_rms_norm():
    def plain(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight

    inputs = {"x": normal(63, 65, seed=1), "weight": normal(65, seed=2)}
    compare(lambda x, w: ops.rms_norm(x, w, 1e-5), plain, inputs)


def test_add_rms_norm():
    def plain(x, residual, weight):
        total = x + residual
        return total, total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-5) * weight

    inputs = {
        "x": normal(63, 65, seed=1),
        "residual": normal(63, 65, seed=2),
        "weight": normal(65, seed=3),
    }
    compare(lambda x, r, w: ops.add_rms_norm(x, r, w, 1e-5), plain, inputs)


def test_swiglu():
    inputs = {"gate": normal(63, 65, seed=1), "up": normal(63, 65, seed=2)}
    compare(ops.swiglu, lambda gate, up: F.silu(gate) * up, inputs)
    compare(
        ops.swiglu_packed,
        lambda both: F.silu(both[:, :33]) * both[:, 33:],
        {"gate_up": normal(63, 66, seed=3)},
    )


def test_rope():
    positions = torch.arange(5, 68)
    frequencies = (10000.0 ** (-torch.arange(0, 16, 2) / 16)).float()
    inputs = {"x": normal(63, 3, 16, seed=1)}
    compare(
        lambda x: ops.rope(x, positions, frequencies, 1.5),
        lambda x: rotate(x, positions, frequencies, 1.5),
        inputs,
    )


def test_lora_linear():
    mask = (normal(63, 17, seed=9) > 0) * 2.0
    inputs = {
        "x": normal(63, 17, seed=1),
        "weight": normal(33, 17, seed=2),
        "bias": normal(33, seed=3),
        "lora_a": normal(4, 17, seed=4),
        "lora_b": normal(33, 4, seed=5),
    }

    def op(x, weight, bias, a, b):
        return ops.lora_linear(x, weight, bias, a, b, 0.5, mask.to(x.dtype))

    def plain(x, weight, bias, a, b):
        return F.linear(x, weight, bias) + 0.5 * F.linear(F.linear(x * mask, a), b)

    compare(op, plain, inputs)
    del inputs["bias"]
    compare(
        lambda x, w, a, b: ops.lora_linear(x, w, None, a, b, 0.5),
        lambda x, w, a, b: x @ (w + 0.5 * b @ a).T,
        inputs,
    )


def test_lora_linear_packed():
    inputs = {
        "x": normal(63, 17, seed=1),
        "weight": normal(9, 17, seed=2),
        "a_0": normal(2, 17, seed=3),
        "a_1": normal(3, 17, seed=4),
        "b_0": normal(5, 2, seed=5),
        "b_1": normal(4, 3, seed=6),
    }

    def op(x, weight, a_0, a_1, b_0, b_1):
        return ops.lora_linear_packed(x, weight, None, [a_0, a_1], [b_0, b_1], 0.5).split([5, 4], 1)

    def plain(x, weight, a_0, a_1, b_0, b_1):
        return x @ (weight[:5] + 0.5 * b_0 @ a_0).T, x @ (weight[5:] + 0.5 * b_1 @ a_1).T

    compare(op, plain, inputs)
    x, weight, *adapters = leaves(*inputs.values())
    shapes = saved_shapes(lambda: op(x, weight.detach(), *adapters))
    # x, the weight, the stacked A's, the B's as blocks of one matrix, and x Aᵀ.
    assert sorted(shapes) == sorted([(63, 17), (9, 17), (5, 17), (9, 5), (63, 5)])


def test_lora_linear_saves_only_what_a_frozen_weight_leaves():
    x, a, b = leaves(normal(63, 17, seed=1), normal(4, 17, seed=2), normal(33, 4, seed=3))
    weight, mask = normal(33, 17, seed=4), normal(63, 17, seed=5)
    shapes = saved_shapes(lambda: ops.lora_linear(x, weight, None, a, b, 0.5, mask))
    # x and the mask once each, the three weights, and x Aᵀ.
    assert sorted(shapes) == sorted([(63, 17), (63, 17), (33, 17), (4, 17), (33, 4), (63, 4)])
    # Nothing asks for the gradient of A: the activation is not kept.
    shapes = saved_shapes(lambda: ops.lora_linear(x, weight, None, a.detach(), b, 0.5))
    assert (63, 17) not in shapes


def test_linear_cross_entropy():
    targets = torch.arange(63) * 7 % 33
    targets[::5] = -100

    def op(hidden, head):
        loss, count, cross_entropy = ops.linear_cross_entropy(hidden, head, targets)
        assert torch.equal(cross_entropy, loss) and not cross_entropy.requires_grad
        assert count.item() == (targets != -100).sum().item()
        assert not count.requires_grad
        return loss

    inputs = {"hidden": normal(63, 17, seed=1), "head": normal(33, 17, seed=2)}
    compare(op, lambda hidden, head: F.cross_entropy(hidden @ head.T, targets), inputs)
    hidden, head = inputs.values()
    expected = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    found = ops.token_negative_log_likelihood(hidden, head, targets)
    check_close("nll", found, expected, "kExactMath")


def test_linear_cross_entropy_with_a_teacher():
    targets = torch.arange(63) * 7 % 33
    targets[::5] = -100
    teacher = normal(63, 17, seed=3)

    def op(hidden, head):
        weights = {"target_weight": 0.5, "teacher_weight": 0.25}
        return ops.linear_cross_entropy(
            hidden, head, targets, teacher.to(hidden.dtype), **weights
        )[0]

    def plain(hidden, head):
        logits = (hidden @ head.T)[targets != -100]
        goal = (teacher @ head.detach().T).softmax(-1)[targets != -100]
        return 0.5 * F.cross_entropy(logits, targets[targets != -100]) + 0.25 * F.cross_entropy(
            logits, goal
        )

    compare(op, plain, {"hidden": normal(63, 17, seed=1), "head": normal(33, 17, seed=2)})


# A ragged batch: the third segment is empty. 4 query heads share 2 key-value heads.
LENGTHS = [63, 1, 0, 66]
CU_SEQLENS = torch.tensor([0, 63, 64, 64, 130], dtype=torch.int32)
H, HKV, D = 4, 2, 16


def segment_slices():
    return [slice(start, start + length) for start, length in zip(CU_SEQLENS.tolist(), LENGTHS)]


def plain_scan(q, k, v, log_gate, initial_state):
    outs, states = [], []
    for number, rows in enumerate(segment_slices()):
        state = initial_state[number]
        for t in range(rows.start, rows.stop):
            state = log_gate[t].exp()[:, :, None] * state + k[t][:, :, None] * v[t][:, None, :]
            outs.append((q[t].unflatten(0, (HKV, H // HKV)) @ state).flatten(0, 1))
        states.append(state)
    return torch.stack(outs), torch.stack(states)


def plain_window(q, k, v, window_keys, sinks=0):
    outs, lses = [], []
    for rows in segment_slices():
        keys, values = (x[rows].repeat_interleave(H // HKV, dim=1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q[rows], keys) / D**0.5
        i, j = torch.arange(rows.stop - rows.start)[:, None], torch.arange(rows.stop - rows.start)
        seen = (j <= i) & ((i - j < window_keys) | (j < sinks))
        scores = scores.masked_fill(~seen, -torch.inf)
        outs.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), values))
        lses.append(scores.logsumexp(-1).T)
    return torch.cat(outs), torch.cat(lses)


def attention_inputs():
    N = sum(LENGTHS)
    k, v = normal(N, HKV, D, seed=2), normal(N, HKV, D, seed=3)
    return {"q": normal(N, H, D, seed=1), "k": k, "v": v}


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_gated_scan(size):
    inputs = attention_inputs() | {
        "log_gate": -size * normal(sum(LENGTHS), HKV, D, seed=4).abs(),
        "initial_state": normal(len(LENGTHS), HKV, D, D, seed=5),
    }
    compare(lambda q, k, v, g, s: ops.gated_scan(q, k, v, g, CU_SEQLENS, s), plain_scan, inputs)


@pytest.mark.parametrize(("window_keys", "sinks"), [(1, 0), (7, 0), (16, 3)])
def test_window_attention(window_keys, sinks):
    compare(
        lambda q, k, v: ops.window_attention(q, k, v, CU_SEQLENS, window_keys, sinks),
        lambda q, k, v: plain_window(q, k, v, window_keys, sinks),
        attention_inputs(),
    )


def test_liger_attention():
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    frequencies = (10000.0 ** (-torch.arange(0, D, 2) / D)).float()

    def plain(q, k, v, initial_state):
        turned_q, turned_k = (rotate(x, positions, frequencies) for x in (q, k))
        window, _ = plain_window(turned_q, turned_k, v, 16)
        log_gate = F.logsigmoid(k) / 16
        scanned, state = plain_scan(q.softmax(-1), k.softmax(-1), v, log_gate, initial_state)
        return 0.5 * window + 0.5 * scanned, state

    def op(q, k, v, initial_state):
        sizes = {"window_keys": 16, "gate_normalizer": 16.0, "mix": 0.5}
        return ops.liger_attention(
            q, k, v, positions, frequencies, CU_SEQLENS, initial_state=initial_state, **sizes
        )

    inputs = attention_inputs() | {"initial_state": normal(len(LENGTHS), HKV, D, D, seed=5)}
    compare(op, plain, inputs)


def test_gated_scan_with_delay_and_normalizer():
    delay = 3

    def plain(q, k, v, log_gate, initial_state):
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        outs, states = [], []
        for number, rows in enumerate(segment_slices()):
            state = initial_state[number]
            for t in range(rows.start, rows.stop):
                if t - delay >= rows.start:
                    state = log_gate[0].exp()[:, :, None] * state + k[t - delay][:, :, None] * v[t - delay][:, None, :]
                outs.append((q[t].unflatten(0, (HKV, H // HKV)) @ state).flatten(0, 1))
            states.append(state)
        return torch.stack(outs), torch.stack(states)

    def op(q, k, v, log_gate, initial_state):
        return ops.gated_scan(q, k, v, log_gate, CU_SEQLENS, initial_state, normalizer=True, delay=delay)

    inputs = attention_inputs() | {
        "log_gate": -normal(1, HKV, D, seed=4).abs(),
        "initial_state": normal(len(LENGTHS), HKV, D, D + 1, seed=5),
    }
    compare(op, plain, inputs)


def test_joint_attention():
    window_keys, group = 5, H // HKV
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    frequencies = (10000.0 ** (-torch.arange(0, D, 2) / D)).float()

    def features(x, weight, bias):
        z = torch.einsum("nhd,hde->nhe", x, weight) + bias
        return torch.cat([z, -z], -1).softmax(-1)

    def plain(q, k, v, w_q, b_q, w_k, b_k, log_importance, log_mix, log_tau, initial_state):
        turned_q, turned_k = (rotate(x, positions, frequencies) for x in (q, k))
        feature_q = features(q, w_q, b_q)
        feature_k = features(k, w_k, b_k) * log_importance.clamp(-6, 6).exp()[..., None]
        decay = torch.exp(-1 / log_tau.exp().clamp(min=8))
        v1 = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        outs, states = [], []
        for number, rows in enumerate(segment_slices()):
            state = initial_state[number]
            for t in range(rows.start, rows.stop):
                if t - window_keys >= rows.start:
                    left = t - window_keys
                    state = decay[:, :, None] * state + feature_k[left][:, :, None] * v1[left][:, None, :]
                near = slice(max(rows.start, t - window_keys + 1), t + 1)
                keys, values = (x[near].repeat_interleave(group, dim=1) for x in (turned_k, v1))
                weights = (torch.einsum("hd,jhd->hj", turned_q[t], keys) / D**0.5).exp()
                far = (feature_q[t].unflatten(0, (HKV, group)) @ state).flatten(0, 1)
                sums = torch.einsum("hj,jhd->hd", weights, values) + log_mix[t].exp()[:, None] * far
                outs.append(sums[:, :D] / sums[:, D:])
            states.append(state)
        return torch.stack(outs), torch.stack(states)

    def op(q, k, v, w_q, b_q, w_k, b_k, log_importance, log_mix, log_tau, initial_state):
        return ops.joint_attention(
            q, k, v, positions, frequencies, w_q, b_q, w_k, b_k, log_importance, log_mix, log_tau, CU_SEQLENS,
            window_keys=window_keys, initial_state=initial_state,
        )  # fmt: skip

    N = sum(LENGTHS)
    inputs = attention_inputs() | {
        "w_q": normal(H, D, D, seed=4) / 2,
        "b_q": normal(H, D, seed=5),
        "w_k": normal(HKV, D, D, seed=6) / 2,
        "b_k": normal(HKV, D, seed=7),
        "log_importance": 4 * normal(N, HKV, seed=8),
        "log_mix": normal(N, H, seed=9),
        "log_tau": 2 + normal(HKV, 2 * D, seed=10),
        "initial_state": normal(len(LENGTHS), HKV, 2 * D, D + 1, seed=11).abs(),
    }
    compare(op, plain, inputs)


def compare_steps(T, window_keys, state_shape, whole, step):
    """Feeds two sequences, in slots 2 and 0 of three, token by token through `step` and compares
    outputs and matrices with `whole`."""
    slots = torch.tensor([2, 0])
    ring = {name: torch.zeros(3, window_keys, HKV, D).double() for name in ("keys", "values")}
    matrices = normal(3, HKV, *state_shape, seed=21).abs()
    segments = torch.tensor([0, T, 2 * T], dtype=torch.int32)
    positions = torch.arange(T).repeat(2)
    expected, state = whole(segments, positions, matrices[slots])
    found = torch.empty_like(expected)
    for t in range(T):
        rows = torch.tensor([t, T + t])
        found[rows] = step(rows, torch.tensor([t, t]), ring["keys"], ring["values"], matrices, slots)
    check_close("out", found, expected, "kExactMath")
    check_close("matrices", matrices[slots], state, "kExactMath")


FREQUENCIES = (10000.0 ** (-torch.arange(0, D, 2) / D)).float()


def test_liger_decode():
    T, window_keys = 9, 4
    q, k, v = normal(2 * T, H, D, seed=1), normal(2 * T, HKV, D, seed=2), normal(2 * T, HKV, D, seed=3)

    def whole(segments, positions, state):
        return ops.liger_attention(
            q, k, v, positions, FREQUENCIES, segments, window_keys=window_keys, initial_state=state
        )

    def step(rows, positions, keys, values, matrices, slots):
        return ops.liger_decode(
            q[rows], k[rows], v[rows], positions, FREQUENCIES, keys, values, matrices, slots
        )

    compare_steps(T, window_keys, (D, D), whole, step)


def test_joint_decode():
    T, window_keys = 9, 4
    q, k, v = normal(2 * T, H, D, seed=1), normal(2 * T, HKV, D, seed=2), normal(2 * T, HKV, D, seed=3)
    maps = [normal(H, D, D, seed=4) / 2, normal(H, D, seed=5)]
    maps += [normal(HKV, D, D, seed=6) / 2, normal(HKV, D, seed=7)]
    importance, mix = 4 * normal(2 * T, HKV, seed=8), normal(2 * T, H, seed=9)
    log_tau = 2 + normal(HKV, 2 * D, seed=10)
    ring_importance = torch.zeros(3, window_keys, HKV).double()

    def whole(segments, positions, state):
        return ops.joint_attention(
            q, k, v, positions, FREQUENCIES, *maps, importance, mix, log_tau, segments,
            window_keys=window_keys, initial_state=state,
        )  # fmt: skip

    def step(rows, positions, keys, values, matrices, slots):
        return ops.joint_decode(
            q[rows], k[rows], v[rows], positions, FREQUENCIES, *maps, importance[rows], mix[rows],
            log_tau, keys, values, ring_importance, matrices, slots,
        )  # fmt: skip

    compare_steps(T, window_keys, (2 * D, D + 1), whole, step)


def test_stochastic_round():
    """The exported model's own version gives the same bits."""
    spec = importlib.util.spec_from_file_location("memory_tigon", SOURCE / "src/export/python/memory_tigon.py")
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    positions = torch.tensor([0, 3, 511, 2**33 + 5])
    x = torch.cat([normal(4, 3, 7, 5, seed=1), 1e-40 * normal(4, 3, 7, 5, seed=2)], dim=1).float()
    x[0, 0, 0] = torch.tensor([math.inf, -math.inf, torch.finfo(torch.float32).max, 0.0, -0.0])
    found = ops.stochastic_round(x, positions)
    assert found.dtype == torch.bfloat16 and found.shape == x.shape
    assert torch.equal(found.view(torch.int16), exported.stochastic_round(x, positions).view(torch.int16))
    assert not torch.equal(found, x.bfloat16())
    for round_x in (ops.stochastic_round, exported.stochastic_round):
        assert round_x(torch.full((4, 9), math.nan), positions).isnan().all()


def test_checks_guard_calls_from_python():
    expected = r"\[rms_norm\] weight: expected shape \[5\], found \[4\]"
    with pytest.raises(RuntimeError, match=expected):
        ops.rms_norm(torch.zeros(3, 5), torch.zeros(4), 1e-5)
    expected = r"\[linear_cross_entropy\] targets: expected ids from 0 to 6"
    with pytest.raises(RuntimeError, match=expected):
        ops.linear_cross_entropy(torch.zeros(2, 5), torch.zeros(7, 5), torch.tensor([0, 7]))
