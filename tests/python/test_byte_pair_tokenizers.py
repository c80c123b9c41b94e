"""tigon's byte-pair tokenizers against the tokenizers and tiktoken packages: same ids, text."""

import base64
import json
import os
import random
import shutil
import unicodedata
from pathlib import Path

import pytest
import tiktoken
import tokenizers
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from support import SOURCE
from tokenizer_texts import check_equal, check_tokenizer, encode_all, texts, tigon_tokenize

SHARED = Path(os.environ.get("TIGON_SHARED", SOURCE.parent / "shared"))
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"needs shared/{name}, which is absent")
    return SHARED / name


def byte_level(add_prefix_space=False, use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


# name: (normalizer, pre-tokenizer, decoder)
STYLES = {
    "gpt2": (None, byte_level(), decoders.ByteLevel()),
    "prefix space": (None, byte_level(add_prefix_space=True), decoders.ByteLevel()),
    "llama3": (
        None,
        sequence(split(Regex(LLAMA3)), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "qwen": (
        normalizers.NFC(),
        sequence(split(Regex(LLAMA3.replace("{1,3}", ""))), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "o200k": (
        None,
        sequence(split(Regex(O200K)), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "deepseek": (
        None,
        sequence(
            split(Regex(r"[\r\n]")),
            split(Regex(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ]+")),
            split(Regex(r"\s?[!-/:-~！-／：-～‘-‟　-。]+")),
            split(Regex(r"\s+$")),
            split(Regex(r"[一-龥ࠀ-一가-퟿]+")),
            pre_tokenizers.Digits(True),
            byte_level(use_regex=False),
        ),
        decoders.ByteLevel(),
    ),
    "digits": (
        normalizers.NFKC(),
        sequence(pre_tokenizers.Digits(False), byte_level()),
        decoders.ByteLevel(),
    ),
    "falcon": (
        normalizers.NFD(),
        sequence(
            pre_tokenizers.Punctuation("contiguous"),
            byte_level(),
            pre_tokenizers.Digits(True),
            split(Regex(r"[0-9][0-9]")),
        ),
        decoders.ByteLevel(),
    ),
    "merged previous": (
        normalizers.NFKD(),
        sequence(split(" ", "merged_with_previous"), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "merged next": (
        normalizers.Lowercase(),
        sequence(split(Regex(r"\s"), "merged_with_next"), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "removed": (
        None,
        sequence(split(Regex(r"\w+|[^\w\s]+"), "removed", True), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "contiguous": (
        None,
        sequence(split(Regex(r"\b[a-z]{1,2}+|^x|\h$"), "contiguous"), byte_level(use_regex=False)),
        decoders.ByteLevel(),
    ),
    "empty matches": (
        None,
        sequence(
            split(Regex(r"\d*"), "merged_with_next"),
            split(Regex(r"(?=[A-Z])")),
            byte_level(use_regex=False),
        ),
        decoders.ByteLevel(),
    ),
    "whitespace": (None, pre_tokenizers.Whitespace(), None),
    "whitespace split": (None, pre_tokenizers.WhitespaceSplit(), None),
    "metaspace": (None, pre_tokenizers.Metaspace(), decoders.Metaspace()),
    "metaspace first": (
        None,
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        decoders.Metaspace(prepend_scheme="first"),
    ),
    "metaspace never": (
        normalizers.Replace(Regex(r"\s{2,}"), "  "),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
        decoders.Metaspace(prepend_scheme="never"),
    ),
    "sentencepiece": (
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
        decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ),
    ),
}


def added_tokens():
    return [
        AddedToken("[MASK]", lstrip=True, rstrip=True, special=True, normalized=False),
        AddedToken("<|im_start|>", special=True, normalized=False),
        AddedToken("<|im_start|>x", special=False, normalized=False),
        AddedToken("wordtoken", single_word=True, normalized=True),
        AddedToken("Hello", normalized=True),
        AddedToken("가", normalized=True, lstrip=True),
    ]


def train(style, **options):
    normalizer, pre_tokenizer, decoder = STYLES[style]
    is_byte_level = isinstance(decoder, decoders.ByteLevel)
    has_fallback = style == "sentencepiece"
    unknown = (
        {}
        if is_byte_level
        else {"unk_token": "<unk>", "fuse_unk": style == "metaspace", "byte_fallback": has_fallback}
    )
    tokenizer = tokenizers.Tokenizer(models.BPE(**unknown, **options))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    special = ["<s>", "</s>", "<unk>"]
    if has_fallback:
        special += [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if is_byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
        limit_alphabet=300,
    )
    tokenizer.train_from_iterator(texts(1200, seed=9), trainer)
    if has_fallback:
        # As in converted sentencepiece models: byte tokens belong to the vocabulary alone.
        data = json.loads(tokenizer.to_str())
        data["added_tokens"] = data["added_tokens"][:3]
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(added_tokens())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def check_against(path, tokenizer, count=1500):
    """Compares with a tokenizer of the tokenizers package."""

    def encode(data):
        return [e.ids for e in tokenizer.encode_batch(data, add_special_tokens=False)]

    check_tokenizer(path, encode, tokenizer.decode, tokenizer.get_vocab_size(), count)


@pytest.mark.parametrize("style", STYLES)
def test_trained(tmp_path, style):
    tokenizer = train(style)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    check_against(tmp_path, tokenizer)


def test_merges_as_strings_and_whole_pieces(tmp_path):
    data = json.loads(train("gpt2").to_str())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    data["model"]["ignore_merges"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False))
    check_against(tmp_path, tokenizers.Tokenizer.from_str(json.dumps(data)))


def test_olmo():
    path = shared("tokenizers/olmo")
    check_against(path, tokenizers.Tokenizer.from_file(str(path / "tokenizer.json")), 10_000)


def test_qwen3():
    path = shared("tokenizers/qwen3-8b")
    check_against(path, transformers.AutoTokenizer.from_pretrained(path).backend_tokenizer, 10_000)


def test_vocabulary_and_merges(tmp_path):
    """GPT-2's files without a word on special tokens; lines of merges.txt end in CRLF."""
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = byte_level(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<|endoftext|>"],
    )
    plain.train_from_iterator(texts(1200, seed=9), trainer)
    plain.model.save(str(tmp_path))
    lines = (tmp_path / "merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_bytes(lines.replace(b"\n", b"\r\n"))
    check_against(tmp_path, plain)


@pytest.mark.parametrize("name", ["llama2", "mistral-v1"])
def test_converted_sentencepiece(tmp_path, name):
    shutil.copy(shared(f"tokenizers/{name}") / "tokenizer.model", tmp_path / "tokenizer.model")
    converted = transformers.LlamaTokenizerFast.from_pretrained(tmp_path, legacy=True)
    converted.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    check_against(tmp_path / "tokenizer.json", converted.backend_tokenizer, 10_000)


def tiktoken_lines(ranks):
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


def check_tiktoken(path, ranks):
    encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens={})
    check_tokenizer(path, encoding.encode_ordinary_batch, encoding.decode, len(ranks))


def test_llama3():
    path = shared("tokenizers/llama3")
    lines = (path / "tokenizer.model").read_bytes().split()
    check_tiktoken(
        path, {base64.b64decode(token): int(rank) for token, rank in zip(lines[::2], lines[1::2])}
    )


def test_tiktoken_file(tmp_path):
    """A file of Llama 3's size with tokens of a text, in an order that merging can reach."""
    source = random.Random(0)
    ranks = {bytes([byte]): byte for byte in range(256)}
    for text in texts(1200, seed=9):
        data = text.encode()
        for length in (2, 3, 5):
            for begin in range(0, len(data) - length, 3):
                ranks.setdefault(data[begin : begin + length], len(ranks))
                if len(ranks) == 90_000:
                    break
    while len(ranks) < 128_000:
        ranks.setdefault(bytes(source.randrange(256) for _ in range(4)), len(ranks))
    ranks = dict(list(ranks.items())[:128_000])
    (tmp_path / "tokenizer.model").write_bytes(tiktoken_lines(ranks))
    check_tiktoken(tmp_path, ranks)


def test_every_character_is_split_alike(tmp_path):
    """Classes by Oniguruma and by PCRE2: every character to U+3100, some to U+20000."""
    characters = [
        chr(c) for c in [*range(0x3100), *range(0x3100, 0x20000, 37)] if not 0xD800 <= c < 0xE000
    ]
    known = [c for c in characters if unicodedata.category(c) != "Cn"]
    for pattern in [
        r"\s",
        r"\w",
        r"[\w]",
        r"\W",
        r"\d",
        r"\p{L}",
        r"[\p{M}\p{Nl}]",
        r"\p{P}",
        r"\p{S}",
        r"[^\S\n]",
        r"\p{Han}",
        r"(?i:k|s|ß)",
    ]:
        tokenizer = tokenizers.Tokenizer(
            models.BPE(vocab={"<unk>": 0}, merges=[], unk_token="<unk>")
        )
        tokenizer.pre_tokenizer = split(Regex(pattern), "removed")
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        found = [len(ids) for ids in encode_all(tmp_path, known)]
        check_equal(pattern, known, found, [len(e.ids) for e in tokenizer.encode_batch(known)])


def test_whole_text(tmp_path):
    path = shared("corpus/input.txt")
    tokenizer = train("llama3")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = path.read_text()
    assert (
        json.loads(tigon_tokenize(tmp_path, text.encode(), "--json"))["ids"]
        == tokenizer.encode(text, add_special_tokens=False).ids
    )
