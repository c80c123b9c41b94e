#!/usr/bin/env python3
"""Prints the result of a run as a table; every number is read from RUN/run.json. Standard library only."""
import json
import pathlib
import sys


def size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024


def main():
    folder = pathlib.Path(sys.argv[1])
    run = json.loads((folder / "run.json").read_text())
    results = run["results"]
    titles = {"teacher": "teacher (full attention)", "window_only": "64-key window only, untrained",
              "own_window": "own window only, untrained", "converted": "converted, untrained",
              "trained": "trained (LoRA)", "branch_off": "trained, recurrence off"}
    print(f"{'':32}{'nats/token':>11}{'perplexity':>12}{'recovered':>11}")
    for row in results["comparison"]["rows"]:
        recovered = row.get("recovered")
        share = "" if recovered is None else f"{100 * recovered:.0f} %"
        print(f"{titles.get(row['name'], row['name']):32}{row['nats_per_token']:11.4f}{row['perplexity']:12.2f}{share:>11}")
    print("(recovered: 100 % is the teacher, 0 % the untrained 64-key window, negative is worse than that window)")
    state = results["state_bytes"]
    print()
    print(f"training:  {run['tokens']:,} tokens at {run['tokens_per_s']:,.0f} tokens/s")
    print(f"memory of a sequence of {state['sequence_tokens']:,} tokens: {size(state['teacher'])} before, {size(state['student'])} after")
    print(f"report:    {folder / 'report.html'}")
    print(f"exported:  {folder / 'export'} (loads in transformers with trust_remote_code=True)")


if __name__ == "__main__":
    main()
