"""The JSON Schema of the manifest, generated from the typed models.

`python -m ladd_data.schema spec/` writes spec/ladd-1.0.schema.json; a test fails when the two differ.
"""

import sys
from pathlib import Path
from typing import Any

from ladd_data.files import canonical_json, write_atomically
from ladd_data.manifest import SPEC_VERSION, Manifest

SCHEMA_NAME = f"ladd-{SPEC_VERSION}.schema.json"


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that meta/ladd.json fulfils."""
    schema = Manifest.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://ladd-data.org/spec/{SCHEMA_NAME}",
        **schema,
    }


def main(folder: str) -> None:
    """Write the schema into the spec folder."""
    write_atomically(Path(folder) / SCHEMA_NAME, canonical_json(manifest_schema()))


if __name__ == "__main__":
    main(sys.argv[1])
