"""The JSON Schema (2020-12) of a record, generated from the models; run as a script to ship it anew."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from reports.record import Record

NAME = "record.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generate() -> dict[str, Any]:
    """The schema of what `reports.record.to_json` writes."""
    return {"$schema": DIALECT, **Record.model_json_schema(mode="serialization")}


def as_text(schema: dict[str, Any]) -> str:
    """The schema as it stands in the shipped file."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def shipped() -> dict[str, Any]:
    """The schema that came with the package, for validators that do not import the models."""
    schema: dict[str, Any] = json.loads(files("reports").joinpath(NAME).read_text(encoding="utf-8"))
    return schema


if __name__ == "__main__":
    Path(__file__).with_name(NAME).write_text(as_text(generate()), encoding="utf-8")
