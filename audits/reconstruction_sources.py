"""Which files a result of the reconstruction benchmark rests on, so that a new attack makes no other old."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("privfed.", "attacks.", "defenses.")
MEASURING = (
    "audits/identification.py",
    "audits/reconstruction_baselines.py",
    "audits/reconstruction_bound.py",
    "audits/reconstruction_deal.py",
    "audits/reconstruction_judge.py",
    "audits/reconstruction_likeness.py",
    "audits/reconstruction_measures.py",
    "audits/reconstruction_run.py",
)
FEDERATION = "audits.reconstruction_federation"


@cache
def sources(module: str) -> tuple[str, ...]:
    """Files that the attack's module and the federation import at any remove, and those that measure.

    The row's own attack stands for all attacks: the list of them is no source, `repr` names its knobs.
    """
    found: set[str] = set()
    todo = [module, FEDERATION]
    while todo:
        name = todo.pop()
        path = name.replace(".", "/") + ".py"
        if path in found or not (ROOT / path).is_file():
            continue
        found.add(path)
        todo += [n for n in imported(ROOT / path) if n.startswith(OURS)]
    return tuple(sorted({*found, *MEASURING}))


def imported(path: Path) -> list[str]:
    """Modules that a file imports, and names in them, which may be modules too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return names
