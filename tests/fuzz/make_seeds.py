"""Writes tests/fuzz/seeds/: small sound files of every kind, for the fuzz targets to start from.

    .venv/bin/python tests/fuzz/make_seeds.py
"""

import base64
import gzip
import io
import json
import lzma
import shutil
import struct
from pathlib import Path

import numpy
import sentencepiece
import tokenizers
from safetensors.numpy import save

SEEDS = Path(__file__).parent / "seeds"
LINES = ["linear attention keeps a state", "tokens and rows", "é über 漢字", "one two three"] * 50


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors():
    tensors = {"a.weight": numpy.ones((2, 3), numpy.float32), "b": numpy.arange(4, dtype=numpy.int64)}
    write("safetensors", "two", save(tensors, {"format": "pt"}))
    write("safetensors", "empty", save({}))
    write("safetensors", "half", save({"h": numpy.ones((1, 0, 2), numpy.float16), "s": numpy.float32([3])}))


def model_configs():
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": [2, 3]}  # fmt: skip
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64, "rope_theta": 5e5}  # fmt: skip
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "truncate": True}
    variants = {
        "llama": {"model_type": "llama", "rope_parameters": llama3, "attention_bias": True},
        "mistral": {"model_type": "mistral", "sliding_window": 16, "rope_theta": 1e4},
        "qwen2": {"model_type": "qwen2", "rope_scaling": yarn, "use_sliding_window": True, "max_window_layers": 1},
        "qwen3": {"model_type": "qwen3", "layer_types": ["full_attention"] * 2, "head_dim": 16, "dtype": "bfloat16"},
        "tigon": {"model_type": "tigon", "base_model_type": "llama", "linearize": {"recipe": "window"}},
    }
    for name, keys in variants.items():
        write("model_config", name, json.dumps(sizes | keys))
    meta = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 64, "multiple_of": 16,
            "ffn_dim_multiplier": 1.3, "norm_eps": 1e-5, "rope_theta": 5e5}  # fmt: skip
    write("model_config", "meta", json.dumps(meta))


def sentencepieces():
    for kind, rule in (("bpe", "identity"), ("unigram", "identity"), ("char", "identity"), ("word", "identity")):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES), model_writer=model, model_type=kind, vocab_size=60, minloglevel=2,
            hard_vocab_limit=False, normalization_rule_name=rule,
        )  # fmt: skip
        write("sentencepiece", kind, model.getvalue())


def llama2c():
    dim, hidden, layers, heads, kv_heads, vocab, seq_len = 4, 3, 1, 2, 1, 5, 2
    kv_dim = dim // heads * kv_heads
    floats = vocab * dim + layers * (2 * dim + 2 * dim * dim + 2 * kv_dim * dim + 3 * hidden * dim)
    floats += dim + seq_len * dim // heads
    header = struct.pack("<7i", dim, hidden, layers, heads, kv_heads, vocab, seq_len)
    write("llama2c", "model", header + bytes(4 * floats))
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", b"<0x0A>", b" a", b"b", b" ab", b"\xc3\xa9"]
    tokens = b"".join(struct.pack("<fi", -float(i), len(piece)) + piece for i, piece in enumerate(pieces))
    write("llama2c", "tokenizer", struct.pack("<i", 7) + tokens)


def byte_pairs():
    def trained(pre_tokenizer, normalizer=None, decoder=None, **model):
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(**model))
        tokenizer.pre_tokenizer, tokenizer.normalizer, tokenizer.decoder = pre_tokenizer, normalizer, decoder
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=90, special_tokens=["<s>", "</s>"], show_progress=False)
        tokenizer.train_from_iterator(LINES, trainer)
        return json.loads(tokenizer.to_str())

    pre, norm, dec = tokenizers.pre_tokenizers, tokenizers.normalizers, tokenizers.decoders
    gpt2 = trained(pre.ByteLevel(add_prefix_space=False), decoder=dec.ByteLevel())
    write("tokenizer_json", "byte_level", json.dumps(gpt2))
    pattern = tokenizers.Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")
    split = pre.Sequence([pre.Split(pattern, "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    write("tokenizer_json", "split", json.dumps(trained(split, norm.NFC(), dec.ByteLevel(), ignore_merges=True)))
    write("tokenizer_json", "metaspace", json.dumps(trained(pre.Metaspace(), None, dec.Metaspace(), byte_fallback=True)))
    steps = norm.Sequence([norm.Prepend("▁"), norm.Replace(" ", "▁")])
    parts = [dec.Replace("▁", " "), dec.ByteFallback(), dec.Fuse(), dec.Strip(" ", 1, 0)]
    llama = trained(pre.Split("▁", "merged_with_next"), steps, dec.Sequence(parts), byte_fallback=True, fuse_unk=True)
    write("tokenizer_json", "llama", json.dumps(llama))

    merges = "\n".join(pair if isinstance(pair, str) else " ".join(pair) for pair in gpt2["model"]["merges"])
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "</s>", "add_bos_token": False}
    files = [json.dumps(gpt2["model"]["vocab"]), "#version: 0.2\n" + merges + "\n", json.dumps(config)]
    write("vocabulary_merges", "qwen", "\0".join(files))
    write("vocabulary_merges", "gpt2", "\0".join(files[:2]))
    lines = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256)] + ["dGhl 256", "IHRoZQ== 257"]
    write("tiktoken", "bytes", "\n".join(lines) + "\n")


def records():
    kinds, formats = ["jsonl", "json", "txt", "gz", "zst", "xz"], ["text", "alpaca", "chat"]
    rows = {
        "text": [{"text": "one two"}, {"text": "é 漢字\n"}, {"text": ""}, {"other": 1}],
        "alpaca": [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Say.", "output": "x"}],
        "chat": [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
                 {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}],
    }  # fmt: skip

    def seed(kind, format_name, data):
        first = kinds.index(kind) + len(kinds) * formats.index(format_name)
        write("records", f"{kind}_{format_name}", bytes([first]) + data)

    for name, list_of_rows in rows.items():
        seed("jsonl", name, "\n".join(map(json.dumps, list_of_rows)).encode())
        seed("json", name, json.dumps(list_of_rows).encode())
    text = b"one\n\0\ntwo\r\n\0\r\nthree"
    seed("txt", "text", text)
    seed("gz", "text", gzip.compress(text, mtime=0))
    seed("xz", "text", lzma.compress(text))


def main():
    shutil.rmtree(SEEDS, ignore_errors=True)
    safetensors()
    model_configs()
    sentencepieces()
    llama2c()
    byte_pairs()
    records()


if __name__ == "__main__":
    main()
