#!/usr/bin/env python3
"""Writes the token rows that ideas.py reads, by the protocol of the recipe's figures.

  prepare.py --tokenizer tokenizer.model --train train.txt.xz --validation held-out.txt.xz --out DIR

A document (split at NUL, outer newlines stripped) becomes BOS + its pieces, without EOS; all documents are joined and cut into
rows of 1024. DIR gets uint16 arrays of [rows, 1024]: train.npy (the first --train-rows of a seeded permutation of the first --pool
rows), calibration.npy (the last 8 of that permutation) and validation.npy (the first 512 rows of the held-out text).
"""

import argparse
import lzma
from pathlib import Path

import numpy
import sentencepiece

ROW = 1024
CALIBRATION_ROWS = 8


def documents(file):
    """The documents of an xz text, without their outer newlines."""
    text = lzma.open(file, "rt", encoding="utf-8", newline="").read()
    return (body for document in text.split("\0") if (body := document.strip("\n")))


def token_rows(tokenizer, file, count):
    """uint16 [count, ROW]: the first rows of a file; a document is one call of the tokenizer."""
    parts, tokens = [], 0
    for document in documents(file):
        ids = [tokenizer.bos_id(), *tokenizer.encode(document)]
        parts.append(numpy.array(ids, dtype=numpy.uint16))
        tokens += len(ids)
        if tokens >= count * ROW:
            return numpy.concatenate(parts)[: count * ROW].reshape(count, ROW)
    raise SystemExit(f"{file}: expected {count} rows of {ROW} tokens, found {tokens // ROW}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", type=int, default=20135, help="rows that are permuted")
    parser.add_argument("--train-rows", type=int, default=4883)
    parser.add_argument("--validation-rows", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(options.tokenizer))
    options.out.mkdir(parents=True, exist_ok=True)
    numpy.save(options.out / "validation.npy", token_rows(tokenizer, options.validation, options.validation_rows))
    rows = token_rows(tokenizer, options.train, options.pool)
    order = numpy.random.default_rng(options.seed).permutation(options.pool)
    numpy.save(options.out / "train.npy", rows[order[: options.train_rows]])
    numpy.save(options.out / "calibration.npy", rows[order[-CALIBRATION_ROWS:]])


if __name__ == "__main__":
    main()
