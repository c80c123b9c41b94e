"""run.py FILE [PACKAGE...]: runs a test file with pytest; skips it if a package is missing."""

import importlib
import os
import sys


def missing_package(packages):
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            return f"{package} ({error})"
    return None


def main():
    file, *packages = sys.argv[1:]
    missing = missing_package(["pytest", "torch", *packages])
    if missing:
        print(f"SKIPPED: needs the Python package {missing}; scripts/setup.sh --tests installs it")
        return 0
    # Before transformers is imported: these tests never look at the network.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import pytest

    return pytest.main(["-q", "-p", "no:cacheprovider", file])


if __name__ == "__main__":
    sys.exit(main())
