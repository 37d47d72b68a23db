"""Finds plug-ins by walking their folders: one file, one or more public classes, nothing to register."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

KINDS = {
    "attacks": ("attacks", ("score", "observation")),
    "defenses": ("defenses", ("adapt",), ("train",), ("uplink",), ("aggregate",), ("release",)),
    "inquiries": ("attacks", ("reconstruct",), ("infer",), ("guess",)),
    "deviations": ("attacks", ("send",)),
    "pipelines": ("privfed.pipelines", ("client_round", "server_round")),
}


def names(kind: str) -> dict[str, type[Any]]:
    """The plug-ins of one kind by name.

    Kinds: "attacks" (who was there), "inquiries" (what the data are), "deviations" (what a malicious server
    may send), "defenses" and "pipelines".

    A plug-in is a class defined in a public module of the folder that has the methods of the kind.
    Its name is the class name in snake case.
    """
    folder, *signatures = KINDS[kind]
    found = (
        cls
        for module in _modules(str(folder))
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__ and any(all(hasattr(cls, m) for m in s) for s in signatures)
    )
    return {snake(cls.__name__): cls for cls in found}


def find(kind: str, name: str) -> type[Any]:
    """The plug-in `name`; the error lists what there is."""
    known = names(kind)
    if name not in known:
        raise ValueError(f"expected {kind} to be one of {', '.join(sorted(known))}, got {name!r}")
    return known[name]


def summary(cls: type[Any]) -> str:
    """First sentence of the docstring."""
    return (inspect.getdoc(cls) or "").split("\n")[0]


def snake(name: str) -> str:
    """CamelCase to snake_case, initialisms kept whole.

    >>> snake("DpSgd"), snake("FedDGM"), snake("DpFedAvg"), snake("LossThreshold")
    ('dp_sgd', 'feddgm', 'dp_fedavg', 'loss_threshold')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return re.sub(r"(^|_)fed_", r"\1fed", words)


def _modules(folder: str) -> Iterator[Any]:
    package = importlib.import_module(folder)
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_") and info.name != "interface":
            yield importlib.import_module(f"{folder}.{info.name}")
