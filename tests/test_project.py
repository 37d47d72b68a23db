"""Promises of the project as a whole: its floors on disk, its size, its version, what an import costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("privfed", "attacks", "defenses", "audits", "reports")
VAGUE = {"utils", "util", "helpers", "helper", "base", "manager", "managers", "misc", "common"}
SOURCES = sorted(p for name in (*PACKAGES, "tests") for p in (ROOT / name).rglob("*.py"))
HEAVY = ("torch", "diffusers", "opacus", "sklearn", "scipy", "matplotlib", "numpy")

IMPORTED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted({m.partition(".")[0] for m in sys.modules} & set(sys.argv[2:])))
"""

HELP = """
import sys
heavy, sys.argv = set(sys.argv[1:]), ["privfed", "--help"]
from audits.cli import main
try:
    main()
finally:
    print("loaded", *sorted(set(sys.modules) & heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_siblings_on_disk(name: str) -> None:
    """Another distribution that owns, say, `reports` would shadow ours without a word from pip."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / name


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_say_what_they_are_and_are_typed(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip().endswith(".")
    assert (ROOT / name / "py.typed").is_file()


def test_installed_version_is_the_one_written_down() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version("privfed") == written


def test_changelog_has_a_place_for_what_is_next() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > 400} == {}


def test_names_say_what_is_inside() -> None:
    names = {p: p.stem.lstrip("_") for p in SOURCES}
    assert [str(p.relative_to(ROOT)) for p, name in names.items() if name in VAGUE] == []


def test_constraints_pin_every_dependency_and_nothing_local() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {w.partition(">=")[0].lower() for w in wanted} <= {name.lower() for name in pins}
    assert [v for v in pins.values() if "+" in v or "/" in v] == []


@pytest.mark.parametrize("module", ["privfed", "privfed.release", "privfed.claims", "reports.record"])
def test_light_modules_load_no_heavy_library(module: str) -> None:
    """A record renders, and a claim is read, where torch was never installed."""
    assert heavy_imports(module) == []


def test_help_answers_without_a_heavy_library() -> None:
    """`privfed --help` must answer at once: importing torch alone takes seconds."""
    command = [sys.executable, "-c", HELP, *HEAVY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "audit" in done.stdout
    assert done.stderr.splitlines()[-1] == "loaded"


def heavy_imports(module: str) -> list[str]:
    """Heavy libraries that importing `module` loads, in a fresh interpreter."""
    command = [sys.executable, "-c", IMPORTED, module, *HEAVY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()
