"""tigon tokenize against the sentencepiece package: the same ids, the same text."""

import io
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
import sentencepiece

from support import BINARY, SOURCE

SHARED = Path(os.environ.get("TIGON_SHARED", SOURCE.parent / "shared"))
PUBLIC = ["models/gutenberg-25m", "tokenizers/llama2", "tokenizers/mistral-v1"]
TRAINED = [("bpe", "identity"), ("unigram", "nmt_nfkc")]

TEXTS = [
    b"",
    b" ",
    b"\n",
    b"Hello, world!",
    b"  two leading and two trailing spaces  ",
    b"tabs\tand\r\nlines\n\n\nand no end",
    "naïve café – “quotes” … ﬁ ½ ｱ Ω Ω".encode(),
    "漢字 かな 한국어 ру́сский العربية".encode(),
    "😀👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\ufeff\u00a0\u3000".encode(),
    "▁ lower one eighth block ▁▁".encode(),
    b"<s> control </s> pieces <unk> <0x41> as text",
    b"a NUL \x00 inside",
    b"invalid \xff\xc3 \xe2\x80 \xed\xa0\x80 \xf0\x9f\x98 utf-8 \xc0\xaf",
    b"1234567890 3.14159 1e-5",
    b"x" * 5000,
    b" " * 300,
]


def tigon_tokenize(tokenizer, data, *options):
    command = [str(BINARY / "tigon"), "tokenize", "--tokenizer", str(tokenizer), *options]
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def encode(tokenizer, data):
    return json.loads(tigon_tokenize(tokenizer, data, "--json"))["ids"]


def random_text(seed, length=2000):
    """Characters from everywhere, now and then a piece of broken UTF-8."""
    source = random.Random(seed)
    ranges = [(0x20, 0x7E)] * 6 + [(0, 0x1F), (0xA0, 0x24F), (0x370, 0x4FF), (0x2000, 0x2BFF),
                                   (0x3000, 0x9FFF), (0xF900, 0xFFFD), (0x1F300, 0x1FAFF)]
    parts = []
    for _ in range(length):
        parts.append(chr(source.randint(*source.choice(ranges))).encode())
        if source.random() < 0.02:
            parts.append(bytes(source.randrange(0x80, 0x100) for _ in range(source.randint(1, 4))))
    return b"".join(parts)


def train(folder, model_type, normalization):
    words = ["linear", "attention", "keeps", "a", "state", "é", "über", "tokens", "and", "rows"]
    source = random.Random(0)
    lines = [" ".join(source.choice(words) for _ in range(10)) for _ in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type=model_type, vocab_size=330,
        normalization_rule_name=normalization, byte_fallback=True, hard_vocab_limit=False,
        minloglevel=2)
    (folder / "tokenizer.model").write_bytes(model.getvalue())


@pytest.fixture(scope="module", params=PUBLIC + TRAINED, ids=lambda p: p if isinstance(p, str) else "-".join(p))
def folder(request, tmp_path_factory):
    if isinstance(request.param, str):
        if not (SHARED / request.param).exists():
            pytest.skip(f"needs shared/{request.param}, which is absent")
        return SHARED / request.param
    path = tmp_path_factory.mktemp("tokenizer")
    train(path, *request.param)
    return path


@pytest.fixture(scope="module")
def oracle(folder):
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def check_ids(folder, oracle, data):
    expected = oracle.encode(data.decode(errors="replace"))
    ids = encode(folder, data)
    assert ids == expected, data[:100]


def check_both_ways(folder, oracle, data):
    check_ids(folder, oracle, data)
    ids = oracle.encode(data.decode(errors="replace"))
    words = " ".join(map(str, ids)).encode()
    assert tigon_tokenize(folder, words, "--decode").decode() == oracle.decode(ids), data[:100]


@pytest.mark.parametrize("data", TEXTS, ids=range(len(TEXTS)))
def test_text(folder, oracle, data):
    check_ids(folder, oracle, data)


@pytest.mark.parametrize("seed", range(3))
def test_random_text(folder, oracle, seed):
    check_both_ways(folder, oracle, random_text(seed))


@pytest.mark.parametrize("seed", range(3))
def test_random_ids(folder, oracle, seed):
    """Ids that no text gives: control pieces, lone bytes."""
    source = random.Random(seed)
    bound = [262, oracle.vocab_size()][seed % 2]
    ids = [source.randrange(bound) for _ in range(1000)]
    found = json.loads(tigon_tokenize(folder, json.dumps({"ids": ids}).encode(), "--decode", "--json"))
    assert found["text"] == oracle.decode(ids)


def test_whole_book(folder, oracle):
    path = SHARED / "corpus/input.txt"
    if not path.exists():
        pytest.skip("needs shared/corpus/input.txt, which is absent")
    check_both_ways(folder, oracle, path.read_bytes())


def refused(tokenizer, data, *options):
    command = [str(BINARY / "tigon"), "tokenize", "--tokenizer", str(tokenizer), *options]
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    assert result.stdout == b""
    return result.returncode, result.stderr.decode()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"5 x", 'expected a token id, found "x"'),
        (b"5 -1", "expected token ids from 0, found -1"),
        (b"5 99999999", "expected ids from 0 to "),
        (b"5 99999999999999999999999", "expected a token id"),
        (b"[5, 1.5]", "expected a token id, found 1.5"),
        (b'{"tokens": [5]}', 'expected the key "ids"'),
        (b'{"ids": 5}', "expected a list of token ids, found number"),
        (b"[5", "not valid JSON"),
    ],
)
def test_bad_ids_are_refused(tmp_path, data, message):
    train(tmp_path, "bpe", "identity")
    code, error = refused(tmp_path, data, "--decode")
    assert code == 1 and message in error, error


def test_plain_output(tmp_path):
    train(tmp_path, "bpe", "identity")
    ids = encode(tmp_path, b"attention state")
    assert tigon_tokenize(tmp_path, b"attention state").decode() == " ".join(map(str, ids)) + "\n"
    for text in (b"", b"  \n"):
        assert tigon_tokenize(tmp_path, text, "--decode") == b""
    assert tigon_tokenize(tmp_path, json.dumps(ids).encode(), "--decode") == b"attention state"


def test_folder_without_tokenizer_is_refused(tmp_path):
    code, error = refused(tmp_path, b"text")
    assert code == 1 and "expected a tokenizer (tokenizer.model), found none" in error
