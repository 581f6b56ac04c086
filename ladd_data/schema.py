"""The JSON Schemas of the manifest, of label sets and of projectors, generated from the typed models.

`python -m ladd_data.schema spec/` writes them into spec/; a test fails when they differ from what is committed.
"""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ladd_data.files import canonical_json, write_atomically
from ladd_data.manifest import SPEC_VERSION, LabelSet, Manifest
from ladd_data.manifest_projector import ProjectorSet

SCHEMA_NAME = f"ladd-{SPEC_VERSION}.schema.json"
PROJECTOR_SCHEMA_NAME = f"ladd-{SPEC_VERSION}-projector.schema.json"
LABELS_SCHEMA_NAME = f"ladd-{SPEC_VERSION}-labels.schema.json"


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that meta/ladd.json fulfils."""
    return _schema(Manifest, SCHEMA_NAME)


def labels_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that labels/NAME/labels.json fulfils."""
    return _schema(LabelSet, LABELS_SCHEMA_NAME)


def projector_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that labels/NAME/projector.json fulfils."""
    return _schema(ProjectorSet, PROJECTOR_SCHEMA_NAME)


def _schema(kind: type[BaseModel], name: str) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://ladd-data.org/spec/{name}",
        **kind.model_json_schema(),
    }


def main(folder: str) -> None:
    """Write the schemas into the spec folder."""
    write_atomically(Path(folder) / SCHEMA_NAME, canonical_json(manifest_schema()))
    write_atomically(Path(folder) / LABELS_SCHEMA_NAME, canonical_json(labels_schema()))
    write_atomically(Path(folder) / PROJECTOR_SCHEMA_NAME, canonical_json(projector_schema()))


if __name__ == "__main__":
    main(sys.argv[1])
