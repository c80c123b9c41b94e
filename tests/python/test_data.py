"""Parquet files written by pyarrow, and files packed by Python, against the same records as JSON lines."""

import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from support import SOURCE, run_tigon

MODEL = SOURCE / "examples/llama-3m"
TEXTS = [f"Record {i}: " + "the same words again and once more, in every file. " * 6 for i in range(40)]
CHATS = [
    [{"role": "user", "content": f"What is {i} and {i}?"}, {"role": "assistant", "content": f"It is {2 * i}."}]
    for i in range(120)
]


def loss(file, *options):
    arguments = ["eval", "--model", MODEL, "--text", file, "--seq-len", 64, "--rows", 6, "--device", "cpu", "--json"]
    return json.loads(run_tigon(*arguments, *options))


def write_lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TIGON_CACHE", str(tmp_path / "cache"))


def check_parquet(tmp_path, rows, *options, **parquet):
    expected = loss(write_lines(tmp_path / "a.jsonl", rows), *options)
    table = pyarrow.Table.from_pylist([{"id": i, **row} for i, row in enumerate(rows)])
    for compression in ["none", "snappy", "zstd"]:
        file = tmp_path / f"{compression}.parquet"
        pyarrow.parquet.write_table(table, file, compression=compression, row_group_size=7, **parquet)
        assert loss(file, *options) == expected


def test_parquet_texts(tmp_path):
    check_parquet(tmp_path, [{"text": text} for text in TEXTS])


def test_parquet_nested_field(tmp_path):
    check_parquet(tmp_path, [{"meta": {"body": text, "n": 1}} for text in TEXTS], "--field", "meta.body")


def test_parquet_chats_count_only_answers(tmp_path):
    options = ["--format", "chat", "--chat-template", "mistral"]
    rows = [{"messages": chat} for chat in CHATS]
    check_parquet(tmp_path, rows, *options)
    masked = loss(tmp_path / "a.jsonl", *options)
    whole = loss(tmp_path / "a.jsonl", *options, "--count-prompt")
    assert 0 < masked["tokens"] < whole["tokens"] == 6 * 63


def test_parquet_problems_name_the_columns(tmp_path):
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "n": [1]}), file)
    with pytest.raises(AssertionError, match="a.parquet: expected a column text, found body, n"):
        loss(file)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    file.write_bytes(damaged[: len(damaged) - 30])
    with pytest.raises(AssertionError, match="error: .*a.parquet: "):
        loss(file)


def test_packed_files_and_arrays_hold_the_same_records(tmp_path):
    rows = [{"text": text} for text in TEXTS]
    lines = write_lines(tmp_path / "a.jsonl", rows)
    expected = loss(lines)
    packed = {"b.jsonl.gz": gzip.compress, "b.jsonl.xz": lzma.compress}
    for name, pack in packed.items():
        (tmp_path / name).write_bytes(pack(lines.read_bytes()[:1000]) + pack(lines.read_bytes()[1000:]))
        assert loss(tmp_path / name) == expected
    for indent in [None, 2]:
        (tmp_path / "c.json").write_text(json.dumps(rows, indent=indent))
        assert loss(tmp_path / "c.json") == expected
    (tmp_path / "parts").mkdir()
    for part in range(4):
        write_lines(tmp_path / f"parts/{part}.jsonl", rows[part * 10 : part * 10 + 10])
    assert loss(tmp_path / "parts") == expected
    assert loss(tmp_path / "parts/*.jsonl") == expected
