"""scripts/stale_measurements.py: a figure whose sources changed since its commit counts as unmeasured."""

import subprocess
import sys

import pytest
from support import SOURCE


@pytest.fixture
def checkout(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    def commit():
        git("add", "-A")
        git("commit", "-qm", "a change")
        return subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout[:10]

    git("init", "-q")
    for name in ("rope", "swiglu"):
        (tmp_path / f"{name}.cu").write_text("old")
    return tmp_path, commit


def judge(folder, text):
    file = folder / "performance.md"
    file.write_text(text)
    run = subprocess.run([sys.executable, SOURCE / "scripts/stale_measurements.py", file], capture_output=True, text=True)
    return run.returncode, run.stdout


def section(title, sources, commit):
    return f"## {title}\n\n<!-- sources: {sources} -->\nOne GPU, commit {commit}.\n\n"


def test_changed_sources_are_unmeasured(checkout):
    folder, commit = checkout
    first = commit()
    both = section("Rope", "rope.cu", first) + section("SwiGLU", "swiglu.cu", first) + "## Words\n\ncommit 1234567\n"
    assert judge(folder, both) == (0, f"measured    {first}  Rope\nmeasured    {first}  SwiGLU\n")
    (folder / "rope.cu").write_text("new")
    code, text = judge(folder, both)  # not committed yet, and changed all the same
    assert code == 1
    assert f"unmeasured  {first}  Rope (changed since: rope.cu)" in text
    assert f"measured    {first}  SwiGLU\n" in text
    second = commit()
    assert judge(folder, section("Rope", "rope.cu", second))[0] == 0


def test_build_files_do_not_count(checkout):
    folder, commit = checkout
    (folder / "ops").mkdir()
    (folder / "ops" / "CMakeLists.txt").write_text("old")
    (folder / "ops" / "rope.cu").write_text("old")
    first = commit()
    (folder / "ops" / "CMakeLists.txt").write_text("new")
    assert judge(folder, section("Rope", "ops", first))[0] == 0
    (folder / "ops" / "rope.cu").write_text("new")
    assert judge(folder, section("Rope", "ops", first))[0] == 1


def test_what_cannot_be_judged(checkout):
    folder, commit = checkout
    first = commit()
    code, text = judge(folder, section("Rope", "rope.cu", "0123456789"))
    assert (code, "no such commit here" in text) == (2, True)
    code, text = judge(folder, section("Rope", "gone.cu", first))
    assert (code, "no such file: gone.cu" in text) == (2, True)
