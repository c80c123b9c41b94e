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
from tokenizer_texts import check_tokenizer, tigon_tokenize

SHARED = Path(os.environ.get("TIGON_SHARED", SOURCE.parent / "shared"))
PUBLIC = ["models/gutenberg-25m", "tokenizers/llama2", "tokenizers/mistral-v1"]
TRAINED = [("bpe", "identity"), ("unigram", "nmt_nfkc")]


def train(folder, model_type, normalization):
    words = ["linear", "attention", "keeps", "a", "state", "é", "über", "tokens", "and", "rows"]
    source = random.Random(0)
    lines = [" ".join(source.choice(words) for _ in range(10)) for _ in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        vocab_size=330,
        normalization_rule_name=normalization,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())


@pytest.fixture(
    scope="module", params=PUBLIC + TRAINED, ids=lambda p: p if isinstance(p, str) else "-".join(p)
)
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


def test_texts(folder, oracle):
    check_tokenizer(folder, oracle.encode, oracle.decode, oracle.vocab_size())


def test_whole_book(folder, oracle):
    """Longer than the parts that tigon hands to the library."""
    path = SHARED / "corpus/input.txt"
    if not path.exists():
        pytest.skip("needs shared/corpus/input.txt, which is absent")
    ids = oracle.encode(path.read_text())
    assert json.loads(tigon_tokenize(folder, path.read_bytes(), "--json"))["ids"] == ids
    assert tigon_tokenize(
        folder, " ".join(map(str, ids)).encode(), "--decode"
    ).decode() == oracle.decode(ids)


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
    ids = json.loads(tigon_tokenize(tmp_path, b"attention state", "--json"))["ids"]
    assert tigon_tokenize(tmp_path, b"attention state").decode() == " ".join(map(str, ids)) + "\n"
    for text in (b"", b"  \n"):
        assert tigon_tokenize(tmp_path, text, "--decode") == b""
    assert tigon_tokenize(tmp_path, json.dumps(ids).encode(), "--decode") == b"attention state"


def test_folder_without_tokenizer_is_refused(tmp_path):
    code, error = refused(tmp_path, b"text")
    assert code == 1 and "expected a tokenizer (tokenizer.model, tokenizer.json, or " in error


def test_lines(tmp_path):
    train(tmp_path, "bpe", "identity")
    ids = json.loads(tigon_tokenize(tmp_path, b"state \xff\n", "--json"))["ids"]
    lines = tigon_tokenize(
        tmp_path, b'"state \xff\\n"\n{"text": "state \xff\\n", "id": 7}\r\n""', "--jsonl"
    )
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"ids": ids},
        {"ids": ids},
        {"ids": []},
    ]
    lines = tigon_tokenize(
        tmp_path, json.dumps(ids).encode() + b'\n{"ids": []}\n', "--jsonl", "--decode"
    )
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"text": "state \ufffd\n"},
        {"text": ""},
    ]


@pytest.mark.parametrize(
    "data, options, message",
    [
        (b'"a"\nb', ["--jsonl"], "stdin line 2: not valid JSON"),
        (b'"a"\n\n', ["--jsonl"], "stdin line 2: not valid JSON"),
        (b'{"ids": [5]}', ["--jsonl"], 'stdin line 1: expected the key "text"'),
        (b"[5]", ["--jsonl"], "stdin line 1: expected a text, found array"),
        (
            b'[5]\n"a"',
            ["--jsonl", "--decode"],
            "stdin line 2: expected a list of token ids, found string",
        ),
        (b"[5, -1]", ["--jsonl", "--decode"], "stdin line 1: expected token ids from 0, found -1"),
    ],
)
def test_bad_lines_are_refused(tmp_path, data, options, message):
    train(tmp_path, "bpe", "identity")
    code, error = refused(tmp_path, data, *options)
    assert code == 1 and message in error, error
