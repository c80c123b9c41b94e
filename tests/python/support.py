"""What the Python tests share: the build, the tolerances of the C++ tests, comparisons."""

import os
import re
import subprocess
from pathlib import Path

import torch

SOURCE = Path(os.environ.get("TIGON_SOURCE_FOLDER", Path(__file__).resolve().parents[2]))
BINARY = Path(os.environ.get("TIGON_BINARY_FOLDER", SOURCE / "build"))


def _read_tolerances():
    text = (SOURCE / "tests/support/tolerance.h").read_text()
    found = re.findall(r"inline constexpr double (k\w+) =\s*([^;]+);", text)
    return {name: float(value) for name, value in found}


TOLERANCE = _read_tolerances()


def relative_rms(found, expected):
    found, expected = found.detach().double(), expected.detach().double()
    shapes = f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    assert found.shape == expected.shape, shapes
    assert torch.isfinite(found).all(), "not finite"
    error, scale = (found - expected).norm(), expected.norm()
    return (error if scale == 0 else error / scale).item()


def check_close(name, found, expected, tolerance):
    """`tolerance` names a constant of tolerance.h."""
    error = relative_rms(found, expected)
    assert error <= TOLERANCE[tolerance], f"{name}: relative RMS {error:.3g} exceeds {tolerance}"


def run_tigon(*arguments):
    """Runs build/tigon; returns what it printed on stdout."""
    command = [str(BINARY / "tigon"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    problem = f"{' '.join(command)} exited {result.returncode}:\n{result.stderr}"
    assert result.returncode == 0, problem
    return result.stdout
