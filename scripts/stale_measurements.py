#!/usr/bin/env python3
"""Says which figures of docs/performance.md still hold: one whose sources changed since its commit counts as unmeasured.

  scripts/stale_measurements.py [FILE]

A section names its sources in a comment, `<!-- sources: src/ops/rope src/ops/checks.cpp -->`, as `tigon bench --record`
writes it, and the commits that it was measured at in its text, `commit 0123abc`. Lists one line a commit of a section. Build files
(CMakeLists.txt) do not count.
Exit code 1 if any is unmeasured, 2 if a section cannot be judged (no such commit, or no such file).
"""

import re
import subprocess
import sys
from pathlib import Path

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
SOURCES = re.compile(r"<!-- sources: (.+?) -->")
COMMIT = re.compile(r"\bcommits? ([0-9a-f]{7,40})\b")


def git(folder, *words):
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True)


def sections(text):
    """(title, sources, commits) of every section that names sources."""
    parts = HEADING.split(text)
    for title, body in zip(parts[1::2], parts[2::2]):
        if named := SOURCES.search(body):
            yield title, named[1].split(), list(dict.fromkeys(COMMIT.findall(body)))


def judge(folder, commit, sources):
    """measured, unmeasured or unknown, and why."""
    missing = [source for source in sources if not (Path(folder) / source).exists()]
    if missing:
        return "unknown", f"no such file: {' '.join(missing)}"
    if git(folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        return "unknown", "no such commit here"
    names = git(folder, "diff", "--name-only", commit, "--", *sources).stdout.split()
    changed = [name for name in names if Path(name).name != "CMakeLists.txt"]
    if not changed:
        return "measured", ""
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "unmeasured", f"changed since: {' '.join(changed[:3])}{more}"


def main():
    file = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs/performance.md").resolve()
    found = git(file.parent, "rev-parse", "--show-toplevel")
    if found.returncode != 0:
        sys.exit(f"{file}: expected a file in a git checkout")
    states = set()
    for title, sources, commits in sections(file.read_text()):
        for commit in commits or ["none"]:
            state, why = judge(found.stdout.strip(), commit, sources)
            states.add(state)
            print(f"{state:10}  {commit:10}  {title}{f' ({why})' if why else ''}")
    sys.exit(2 if "unknown" in states else 1 if "unmeasured" in states else 0)


if __name__ == "__main__":
    main()
