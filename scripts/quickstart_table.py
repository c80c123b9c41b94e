#!/usr/bin/env python3
"""Prints the result of a run as a table; every number is read from RUN/run.json. Standard library only."""
import json
import pathlib
import sys

TITLES = {
    "teacher": "teacher (full attention)",
    "window_only": "64-key window only, untrained",
    "converted": "converted, untrained",
    "trained": "trained (LoRA)",
    "branch_off": "trained, recurrence off",
}
SEQUENCE_TOKENS = 32768


def size(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def main():
    folder = pathlib.Path(sys.argv[1])
    run = json.loads((folder / "run.json").read_text())
    print(f"{'':32}{'nats/token':>11}{'perplexity':>12}{'recovered':>11}")
    for name, title in TITLES.items():
        row = run["results"][name]
        print(f"{title:32}{row['nats_per_token']:11.4f}{row['perplexity']:12.2f}{100 * row['recovered']:9.0f} %")
    print("recovered: 100 % is the teacher, 0 % the untrained 64-key window, below 0 is worse than that window.")
    state = next(entry for entry in run["state_bytes"] if entry["tokens"] == SEQUENCE_TOKENS)
    print()
    print(f"training   {run['tokens']:,} tokens, {run['tokens_per_s']:,.0f} tokens/s")
    print(f"memory     of a sequence of {SEQUENCE_TOKENS:,} tokens: {size(state['teacher'])} before, {size(state['student'])} after")
    print(f"exported   {run['export']} (loads in transformers with trust_remote_code=True)")
    print(f"report     {folder / 'report.html'}")


if __name__ == "__main__":
    main()
