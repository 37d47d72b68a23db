from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"
HEAVY = {"torch", "matplotlib", "numpy", "scipy", "sklearn", "opacus", "diffusers"}


@pytest.mark.parametrize(
    "module", ["reports.record", "reports.markdown", "reports.html", "reports.schema", "reports.wording"]
)
def test_a_record_renders_where_no_heavy_library_is_installed(module: str) -> None:
    command = [sys.executable, "-c", LOADED, module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
