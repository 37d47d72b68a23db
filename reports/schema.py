"""The JSON Schemas (2020-12) of a record and of a frontier, generated from their models.

Run as a script to ship them anew.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reports.frontier import Frontier
from reports.record import Record

NAME = "record.schema.json"
FRONTIER = "frontier.schema.json"
MODELS: dict[str, type[BaseModel]] = {NAME: Record, FRONTIER: Frontier}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generate(name: str = NAME) -> dict[str, Any]:
    """The schema of what `to_json` of `reports.record` or of `reports.frontier` writes."""
    return {"$schema": DIALECT, **MODELS[name].model_json_schema(mode="serialization")}


def as_text(schema: dict[str, Any]) -> str:
    """The schema as it stands in the shipped file."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def shipped(name: str = NAME) -> dict[str, Any]:
    """The schema that came with the package, for validators that do not import the models."""
    schema: dict[str, Any] = json.loads(files("reports").joinpath(name).read_text(encoding="utf-8"))
    return schema


if __name__ == "__main__":
    for name in MODELS:
        Path(__file__).with_name(name).write_text(as_text(generate(name)), encoding="utf-8")
