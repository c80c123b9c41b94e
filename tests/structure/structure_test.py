"""Checks the rules that keep src/ in levels (docs/structure.md), with the standard library alone.

A file includes its own folder and folders of lower levels, some folders see no Torch header, ops
sees no other folder, and files stay short. Run as: structure_test.py PROJECT_FOLDER [--self-test]
"""

import pathlib
import re
import sys
import tempfile

LEVELS = {
    "core": 0,
    "io": 1, "ops": 1,
    "data": 2, "model": 2,
    "lora": 3, "linearize": 3,
    "export": 4, "eval": 4, "generate": 4,
    "train": 5, "serve": 5,
    "bench": 6, "sweep": 6,
    "apps": 7,
}
# Folders of one level do not see each other, but for these.
ALLOWED_BESIDE = {("linearize", "lora")}
WITHOUT_TORCH = {"core", "io", "data"}
WITHOUT_OTHER_FOLDERS = {"ops"}
# Includes that are found beside src/ and belong to no level.
GENERATED = {"embedded", "generated"}
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
MAX_LINES = 450

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")


def folder_of(path, root):
    """The level folder of a source file: src/FOLDER/… or apps/…; src/x.h has none."""
    parts = path.relative_to(root).parts
    if parts[0] == "apps":
        return "apps"
    return parts[1] if len(parts) > 2 else None


def included_folder(target, path, root):
    """The level folder an include leads to; None for system and generated headers."""
    first = target.split("/")[0]
    if "/" in target and first in LEVELS:
        return first
    beside = (path.parent / target).resolve()
    if beside.is_file() and root in beside.parents:
        return folder_of(beside, root)
    return None


def check_include(target, is_quoted, path, root):
    """The rule an include breaks, or None."""
    own = folder_of(path, root)
    if TORCH.match(target):
        return f"{own} may not see Torch headers" if own in WITHOUT_TORCH else None
    other = included_folder(target, path, root)
    if other is None:
        known = not is_quoted or "/" not in target or target.split("/")[0] in GENERATED
        return None if known else "leads to no known folder"
    if other == own:
        return None
    if own in WITHOUT_OTHER_FOLDERS:
        return f"{own} may not include other folders"
    if LEVELS[other] > LEVELS[own]:
        return f"{own} is level {LEVELS[own]}, {other} is level {LEVELS[other]}"
    if LEVELS[other] == LEVELS[own] and (own, other) not in ALLOWED_BESIDE:
        return f"{own} and {other} are both level {LEVELS[own]}"
    return None


def find_problems(root):
    root = root.resolve()
    problems = []
    files = [path for top in ("src", "apps") for path in sorted((root / top).rglob("*"))
             if path.suffix in SOURCE_SUFFIXES]
    if not files:
        return [f"{root}: no source files"]
    for path in files:
        name = path.relative_to(root)
        if folder_of(path, root) not in LEVELS:
            problems.append(f"{name}: its folder has no level")
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES:
            problems.append(f"{name}: {len(lines)} lines, at most {MAX_LINES} are allowed")
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if match:
                broken = check_include(match[2], match[1] == '"', path, root)
                if broken:
                    problems.append(f"{name}:{number}: includes {match[2]}: {broken}")
    return problems


def self_test():
    """Every rule is broken once in a small tree; each must be found, and nothing else."""
    files = {
        "src/core/good.h": "#include <vector>\n#include \"core/other.h\"\n",
        "src/core/upward.h": "#include \"io/json_file.h\"\n",
        "src/io/torch.cpp": "#include <torch/torch.h>\n",
        "src/data/aten.h": "  #  include <ATen/core/Tensor.h>\n",
        "src/io/beside.cpp": "#include \"ops/segments.h\"\n",
        "src/ops/core.cpp": "#include \"core/error.h\"\n#include <ATen/ATen.h>\n",
        "src/linearize/good.cpp": "#include \"lora/lora.h\"\n#include <torch/torch.h>\n",
        "src/lora/beside.cpp": "#include \"linearize/plan.h\"\n",
        "src/core/relative.h": "#include \"../io/torch.cpp\"\n",
        "src/train/good.cpp": "#include \"embedded/report.h\"\n// #include \"apps/command.h\"\n",
        "src/train/unknown.cpp": "#include \"nowhere/x.h\"\n",
        "src/misc/lost.h": "\n",
        "apps/good.cpp": "#include \"command.h\"\n#include \"train/train.h\"\n",
        "apps/long.cpp": "\n" * (MAX_LINES + 1),
        "apps/full.cpp": "\n" * MAX_LINES,
    }
    expected = {"src/core/upward.h:1", "src/io/torch.cpp:1", "src/data/aten.h:1",
                "src/io/beside.cpp:1", "src/ops/core.cpp:1", "src/lora/beside.cpp:1",
                "src/core/relative.h:1", "src/train/unknown.cpp:1", "src/misc/lost.h",
                "apps/long.cpp"}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        found = {problem.split(": ")[0] for problem in find_problems(root)}
    return [f"self-test: {name}: {'not found' if name in expected else 'found without reason'}"
            for name in sorted(expected ^ found)]


def main():
    root = pathlib.Path(sys.argv[1])
    problems = self_test() if "--self-test" in sys.argv[2:] else find_problems(root)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
