#!/usr/bin/env python3
"""Trains variants of the recipe `tigon` on a small Llama and compares what they recover.

  ideas.py --model DIR --data DIR --out results.json --run NAME[,NAME...] [--tokens 5M] [--rows 8]

--run check prints the losses of the teacher and of an untrained 64-key window, --run list the ideas; NAME+NAME is both in one.
DIR of --data is what prepare.py wrote. A run that fails is reported and the next one begins. Needs PyTorch and numpy only.
"""

import argparse
import json
import math
import struct
import sys
import time
import traceback
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import nn

from blocks import inverse_frequencies, rotate
from mixers import Options, make_mixer

TEACHER_LOSS, WINDOW_LOSS = 3.1050, 3.2976
LORA_RANK, LORA_ALPHA = 8, 8
WARMUP_STEPS, FINAL_RATIO = 40, 0.02
DEFAULT_TOKENS = 5_000_000
REPORT_STEPS = 60


@dataclass(frozen=True)
class Idea:
    what: str
    options: Options = Options()
    train: dict = field(default_factory=dict)  # rows, new_lr


def idea(what, train=None, **options):
    return Idea(what, Options(**options), train or {})


IDEAS = {
    "base": idea("the recipe"),
    "base-new6-batch4": idea("the recipe, 4 rows a step, new parameters at 6e-3", {"rows": 4, "new_lr": 6e-3}),
    # Delta rules.
    "delta-values": idea("what the state says at φk becomes as if the token weighed γ(x) times as much", rule="delta-values"),
    "delta-values-head": idea("the same, γ one number a KV head", rule="delta-values", rate="head"),
    "delta-erase": idea("values and mass fade by β(x) along φk/|φk| before the token enters", rule="erase"),
    "delta-erase-centred": idea("the same along φk less its mean over channels", rule="erase", centred=True),
    # Second-order features.
    "taylor-14": idea("1, z, z zᵀ/2 of 14 balanced coordinates: 120 channels", features="taylor", rank=14),
    "taylor-15": idea("the same of 15: 136 channels", features="taylor", rank=15),
    "outer-16x8": idea("product of a softmax of 16 and one of 8 channels", features="outer", outer=(16, 8)),
    "outer-8x4x4": idea("product of softmaxes of 8, 4 and 4 channels", features="outer", outer=(8, 4, 4)),
    "outer-32x4": idea("product of a softmax of 32 and one of 4 channels", features="outer", outer=(32, 4)),
    # Sizes and low-rank maps.
    "features-96-r16": idea("96 channels, maps of rank 16", channels=96, rank=16, map_scale=1.5),
    "features-96-r32": idea("96 channels, maps of rank 32", channels=96, rank=32, map_scale=1.5),
    "features-128-r8": idea("128 channels, maps of rank 8", channels=128, rank=8, map_scale=1.5),
    "features-128-r16": idea("128 channels, maps of rank 16", channels=128, rank=16, map_scale=1.5),
    "features-128-r32": idea("128 channels, maps of rank 32", channels=128, rank=32, map_scale=1.5),
    "features-192-r16": idea("192 channels, maps of rank 16", channels=192, rank=16, map_scale=1.5),
    "features-192-r32": idea("192 channels, maps of rank 32", channels=192, rank=32, map_scale=1.5),
    "features-256-r16": idea("256 channels, maps of rank 16", channels=256, rank=16, map_scale=1.5),
    "features-256-r32": idea("256 channels, maps of rank 32", channels=256, rank=32, map_scale=1.5),
    # RoPE.
    "rope-0.1": idea("the window's RoPE base times 0.1", rope_scale=0.1),
    "rope-10": idea("the window's RoPE base times 10", rope_scale=10),
    "rope-dynamic": idea("the window's RoPE base grows with the position from 256 on (NTK)", rope_dynamic=256),
    "rope-learned": idea("the window's RoPE frequencies are learned", rope_learned=True),
    "rope-features": idea("features see RoPE of 10 times the base", feature_rope_scale=10),
    # Eviction.
    "evict-x": idea("half of the ring keeps what x calls important", kept_blocks=2, keep_by_x=True),
    "evict-mass": idea("half of the ring keeps what got most attention", kept_blocks=2, keep_by_mass=True),
    "evict-both": idea("both added", kept_blocks=2, keep_by_x=True, keep_by_mass=True),
    "evict-both-16": idea("both, a quarter of the ring", kept_blocks=1, keep_by_x=True, keep_by_mass=True),
    "evict-none": idea("the latest tokens alone, evicted by blocks of 16 (what the others add to)", kept_blocks=2),
    # Decay.
    "gate": idea("a further decay a KV head from x", gate=True),
    "decay-two-times": idea("channels start at 64 and 2048 tokens in turn", decay_times=(64, 2048)),
    "decay-head": idea("one decay a KV head", decay="head"),
    # No further bytes.
    "temperature": idea("a learned scale of the features' logits a query head", temperature=True),
    "sink": idea("a learned term of the denominator a query head", sink=True),
    "far-map": idea("a linear map of the far part's output a query head", far_map=True),
    "mix-slope": idea("learned slopes of log Z and of the window's log-sum-exp in the mixing", mix_slope=True),
    "calibrate-mix": idea("the mixing from x starts at a least-squares fit to the teacher", calibrate_mix=True),
    "maps-balanced": idea("maps start as balanced coordinates of q·k at far distances", balanced_maps=True),
    "start": idea("both: calibrate-mix and maps-balanced", calibrate_mix=True, balanced_maps=True),
    "start-outer": idea("calibrate-mix and outer-16x8", calibrate_mix=True, features="outer", outer=(16, 8)),
    "start-taylor": idea("calibrate-mix and taylor-14", calibrate_mix=True, features="taylor", rank=14),
    "maps-sharp": idea("maps start at 1.5 times the identity", map_scale=1.5),
}


def find_idea(name):
    """The idea of a name, or several in one where names are joined by +."""
    parts = [IDEAS[part] for part in name.split("+")]
    options, train = {}, {}
    for part in parts:
        options |= {f.name: value for f in fields(Options) if (value := getattr(part.options, f.name)) != f.default}
        train |= part.train
    return Idea("; ".join(part.what for part in parts), Options(**options), train)


def read_safetensors(file):
    """Tensors of a safetensors file by name."""
    data = bytearray(Path(file).read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            raw = torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=8 + length + begin)
            tensors[name] = raw.view(types[entry["dtype"]]).view(entry["shape"])
    return tensors


class Llama:
    """A frozen Llama in bf16; its attention may be replaced."""

    def __init__(self, folder, device):
        config = json.loads((Path(folder) / "config.json").read_text())
        self.hidden, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads, self.groups = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim = config.get("head_dim") or self.hidden // self.heads
        self.eps = config["rms_norm_eps"]
        self.rope_base = (config.get("rope_parameters") or config)["rope_theta"]
        self.device = device
        tensors = read_safetensors(Path(folder) / "model.safetensors")
        tensors = {name: tensor.to(device, torch.bfloat16) for name, tensor in tensors.items()}
        self.embedding, self.norm = tensors["model.embed_tokens.weight"], tensors["model.norm.weight"]
        self.head = self.embedding if config["tie_word_embeddings"] else tensors["lm_head.weight"]
        prefixes = [f"model.layers.{layer}." for layer in range(self.layers)]
        self.weights = [{name[len(p) : -len(".weight")]: t for name, t in tensors.items() if name.startswith(p)} for p in prefixes]

    def attention(self, layer, x, q, k, v):
        """The teacher's own: causal softmax attention; q [B, T, H, D], k and v [B, T, G, D] → [B, T, H D]."""
        positions = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angles = positions[:, None, None] * inverse_frequencies(self.rope_base, self.dim, x.device)
        q, k = (rotate(part, angles).to(x.dtype) for part in (q, k))
        k, v = (part.repeat_interleave(self.heads // self.groups, 2) for part in (k, v))
        out = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)), is_causal=True)
        return out.transpose(1, 2).flatten(2)

    def forward(self, tokens, attention=None, lora=None):
        """Logits [B, T, vocabulary] in bf16 of tokens [B, T]; attention(layer, x, q, k, v), lora: {(layer, name): (a, b)}."""
        attention = attention or self.attention
        h = F.embedding(tokens, self.embedding)
        for layer, w in enumerate(self.weights):
            x = F.rms_norm(h, (self.hidden,), w["input_layernorm"], self.eps)
            q, k, v = (self.projected(layer, name, x, lora).unflatten(-1, (-1, self.dim)) for name in ("q", "k", "v"))
            h = h + F.linear(attention(layer, x, q, k, v), w["self_attn.o_proj"])
            x = F.rms_norm(h, (self.hidden,), w["post_attention_layernorm"], self.eps)
            x = F.silu(F.linear(x, w["mlp.gate_proj"])) * F.linear(x, w["mlp.up_proj"])
            h = h + F.linear(x, w["mlp.down_proj"])
        return F.linear(F.rms_norm(h, (self.hidden,), self.norm, self.eps), self.head)

    def projected(self, layer, name, x, lora):
        out = F.linear(x, self.weights[layer][f"self_attn.{name}_proj"])
        if lora is None:
            return out
        a, b = lora[layer, name]
        return out + F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype)) * (LORA_ALPHA / LORA_RANK)

    def make_lora(self):
        """{(layer, name): (a, b)}: a at random, b zero."""
        lora = {}
        for layer in range(self.layers):
            for name in ("q", "k", "v"):
                out = self.weights[layer][f"self_attn.{name}_proj"].shape[0]
                bound = 1 / math.sqrt(self.hidden)  # kaiming_uniform with a = √5
                a = (torch.rand(LORA_RANK, self.hidden) * 2 - 1) * bound
                lora[layer, name] = tuple(nn.Parameter(part.to(self.device)) for part in (a, torch.zeros(out, LORA_RANK)))
        return lora

    def make_mixers(self, options):
        shape = (self.hidden, self.heads, self.groups, self.dim, self.rope_base)
        return nn.ModuleList(make_mixer(options, *shape, layer=layer) for layer in range(self.layers)).to(self.device)


def student_attention(mixers, far=True):
    return lambda layer, x, q, k, v: mixers[layer](x, q, k, v, far=far)


@torch.no_grad()
def calibrate(llama, mixers, rows):
    """One teacher-forced pass: every layer sees the teacher's x, q, k and v."""

    def attention(layer, x, q, k, v):
        mixers[layer].calibrate(x, q, k, v)
        return llama.attention(layer, x, q, k, v)

    llama.forward(rows, attention)


@torch.no_grad()
def held_out_loss(llama, rows, attention=None, lora=None, batch=16):
    """Mean nats a prediction over all but the first token of each row."""
    total = torch.zeros((), dtype=torch.float64, device=llama.device)
    for part in rows.split(batch):
        logits = llama.forward(part, attention, lora)[:, :-1].float()
        total += F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
    return total.item() / rows[:, 1:].numel()


def training_loss(llama, rows, attention, lora):
    """Half cross-entropy of the text, half of the teacher's distribution."""
    with torch.no_grad():
        wanted = llama.forward(rows)[:, :-1].float().softmax(-1)
    found = llama.forward(rows, attention, lora)[:, :-1].float().log_softmax(-1)
    text = found.gather(-1, rows[:, 1:, None]).mean()
    return -0.5 * text - 0.5 * (wanted * found).sum(-1).mean()


def learning_rate_ratio(step, steps):
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return FINAL_RATIO + (1 - FINAL_RATIO) * 0.5 * (1 + math.cos(math.pi * done))


def train(llama, mixers, lora, rows, name, new_lr):
    """Trains on rows [steps, rows, T]; returns the seconds."""
    adapters, new = [part for pair in lora.values() for part in pair], list(mixers.parameters())
    groups = [{"params": adapters, "lr": 1e-3, "weight_decay": 0.01}, {"params": new, "lr": new_lr, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=llama.device.type == "cuda")
    rates = [group["lr"] for group in groups]
    attention = student_attention(mixers)

    begun, total, last = time.time(), torch.zeros((), device=llama.device), 0
    for step, batch in enumerate(rows):
        for p in (*adapters, *new):
            p.grad = None
        loss = training_loss(llama, batch, attention, lora)
        loss.backward()
        total += loss.detach()
        nn.utils.clip_grad_norm_([*adapters, *new], 1.0)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * learning_rate_ratio(step, len(rows))
        optimizer.step()
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == len(rows):
            mean = total.item() / (step + 1 - last)
            speed = (step + 1) * batch.numel() / (time.time() - begun)
            print(f"  {name}: step {step + 1}/{len(rows)}, loss {mean:.4f}, {speed:,.0f} tokens/s", flush=True)
            if not math.isfinite(mean):
                raise FloatingPointError(f"loss {mean} by step {step + 1}")
            total, last = torch.zeros_like(total), step + 1
    return time.time() - begun


def run(llama, data, name, options):
    """Converts, trains and judges one idea; returns what results.json holds of it."""
    idea = find_idea(name)
    torch.manual_seed(options.seed)
    mixers, lora = llama.make_mixers(idea.options), llama.make_lora()
    mixers.requires_grad_(True)
    begun = time.time()
    calibrate(llama, mixers, data["calibration"])
    converted = held_out_loss(llama, data["validation"], student_attention(mixers), lora)
    rows_a_step = options.rows or idea.train.get("rows", 8)
    tokens = options.tokens
    T = data["train"].shape[1]
    steps = min(tokens // (rows_a_step * T), len(data["train"]) // rows_a_step)
    batches = data["train"][: steps * rows_a_step].view(steps, rows_a_step, T)
    print(f"  {name}: {idea.what}; converted {converted:.4f}", flush=True)
    seconds = train(llama, mixers, lora, batches, name, idea.train.get("new_lr", 3e-3))
    final = held_out_loss(llama, data["validation"], student_attention(mixers), lora)
    return {
        "name": name,
        "what": idea.what,
        "state_kib": idea.options.state_kib(llama.dim),
        "new_parameters": sum(p.numel() for p in mixers.parameters()),
        "tokens": batches.numel(),
        "converted": converted,
        "trained": final,
        "recovered": (WINDOW_LOSS - final) / (WINDOW_LOSS - TEACHER_LOSS),
        "far_off": held_out_loss(llama, data["validation"], student_attention(mixers, far=False), lora),
        "seconds": time.time() - begun,
        "tokens_per_s": batches.numel() / seconds,
        "seed": options.seed,
    }


def line(r):
    return (
        f"{r['name']:22} {r['state_kib']:6.2f} KiB  {r['new_parameters']:9,} new  {r['tokens'] / 1e6:.2f} M tokens  "
        f"converted {r['converted']:.4f}  trained {r['trained']:.4f}  recovered {100 * r['recovered']:5.1f} %  far off {r['far_off']:.4f}  "
        f"{r['seconds']:5.0f} s  {r['tokens_per_s']:9,.0f} tokens/s"
    )


def check(llama, data):
    mixers = llama.make_mixers(Options())
    begun = time.time()
    print(f"teacher           {held_out_loss(llama, data['validation']):.4f}  (expected {TEACHER_LOSS:.4f} on 512 rows)")
    window = held_out_loss(llama, data["validation"], student_attention(mixers, far=False))
    print(f"window of 64 keys {window:.4f}  (expected {WINDOW_LOSS:.4f})  {time.time() - begun:.1f} s", flush=True)


def count(text):
    """5M, 500K or a plain number."""
    return int(float(text.rstrip("KM")) * {"K": 1e3, "M": 1e6}.get(text[-1], 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="the results, rewritten after every run")
    parser.add_argument("--run", default="list", help="names joined by commas, all, check or list")
    parser.add_argument("--tokens", type=count, default=DEFAULT_TOKENS, help="of training, 5M if not given")
    parser.add_argument("--rows", type=int, help="rows a step, instead of the idea's own (8)")
    parser.add_argument("--row-tokens", type=int, default=1024, help="shorter rows, for a quick try")
    parser.add_argument("--validation-rows", type=int, default=512)
    parser.add_argument("--calibration-rows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    if options.run == "list":
        for name, idea in IDEAS.items():
            print(f"{name:22} {idea.options.state_kib(64):6.2f} KiB  {idea.what}")
        return
    names = list(IDEAS) if options.run == "all" else options.run.split(",")
    if unknown := [part for name in names for part in name.split("+") if part not in IDEAS and name != "check"]:
        parser.error(f"unknown: {' '.join(unknown)} (--run list prints the ideas)")
    torch.set_float32_matmul_precision("high")
    llama = Llama(options.model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    limits = {"train": None, "validation": options.validation_rows, "calibration": options.calibration_rows}
    data = {}
    for name, limit in limits.items():
        rows = numpy.load(options.data / f"{name}.npy")[:limit, : options.row_tokens].astype(numpy.int64)
        data[name] = torch.from_numpy(rows).to(llama.device)

    results, failed = [], []
    for name in names:
        if name == "check":
            check(llama, data)
            continue
        try:
            results.append(run(llama, data, name, options))
            print(line(results[-1]), flush=True)
        except Exception as error:  # the next idea may work
            failed.append(name)
            results.append({"name": name, "failed": f"{type(error).__name__}: {error}"})
            traceback.print_exc(limit=-4)
            print(f"{name:22} failed: {error}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
