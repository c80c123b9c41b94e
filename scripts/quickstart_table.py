#!/usr/bin/env python3
"""quickstart_table.py RUN WINDOW_RUN: prints the results of two runs as a table; every number is read from their run.json.
Standard library only."""
import json
import pathlib
import sys

SEQUENCE_TOKENS = 32768


def size(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def state(run, whose):
    """Bytes that a sequence of SEQUENCE_TOKENS tokens keeps."""
    return next(entry for entry in run["state_bytes"] if entry["tokens"] == SEQUENCE_TOKENS)[whose]


def main():
    folders = [pathlib.Path(folder) for folder in sys.argv[1:3]]
    run, window = (json.loads((folder / "run.json").read_text()) for folder in folders)
    rows, windows = run["results"], window["results"]
    print(f"{'':38}{'nats/token':>11}{'perplexity':>12}{'recovered':>11}")
    for title, row in (
        ("teacher (full attention)", rows["teacher"]),
        ("window of 64 keys, untrained", rows["window_only"]),
        ("window of as many bytes, untrained", windows["converted"]),
        ("window of as many bytes, trained", windows["trained"]),
        ("tigon, calibrated", rows["converted"]),
        ("tigon, trained", rows["trained"]),
        ("tigon, trained, recurrence off", rows["branch_off"]),
    ):
        print(f"{title:38}{row['nats_per_token']:11.4f}{row['perplexity']:12.2f}{100 * row['recovered']:9.0f} %")
    print("recovered: 100 % is the teacher, 0 % the untrained 64-key window, below 0 is worse than that window.")
    print()
    print(f"training   {run['tokens']:,} tokens, {run['tokens_per_s']:,.0f} tokens/s (the window: {window['tokens_per_s']:,.0f})")
    print(
        f"memory     of a sequence of {SEQUENCE_TOKENS:,} tokens: {size(state(run, 'teacher'))} before, "
        f"{size(state(run, 'student'))} after (the window: {size(state(window, 'student'))})"
    )
    print(f"exported   {run['export']} (loads in transformers with trust_remote_code=True)")
    print(f"report     {folders[0] / 'report.html'}")


if __name__ == "__main__":
    main()
