"""Write the corpus: `python spec/examples/make.py`. A test fails when what is committed is not what this writes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from cases import Case
from invalid_arrows import CASES as WRONG_ARROWS
from invalid_files import CASES as WRONG_FILES
from invalid_manifests import CASES as WRONG_MANIFESTS
from invalid_records import CASES as WRONG_RECORDS
from invalid_tars import CASES as WRONG_TARS
from invalid_versions import CASES as WRONG_VERSIONS
from invalid_views import CASES as WRONG_VIEWS
from jpeg_cases import INVALID as WRONG_JPEGS
from label_set_cases import INVALID as WRONG_SETS
from projector_cases import INVALID as WRONG_PROJECTORS
from valid import CASES as VALID

HERE = Path(__file__).parent
INVALID: list[Case] = [
    *WRONG_FILES,
    *WRONG_MANIFESTS,
    *WRONG_RECORDS,
    *WRONG_VIEWS,
    *WRONG_TARS,
    *WRONG_ARROWS,
    *WRONG_VERSIONS,
    *WRONG_JPEGS,
    *WRONG_SETS,
    *WRONG_PROJECTORS,
]
LIBRARIES = ("numpy", "pillow", "pyarrow", "pyyaml")
"""Whose versions show in the bytes: Parquet states its writer, and deflate and zstd may differ."""


def made_with() -> dict[str, str]:
    """Return the versions that decide the bytes."""
    return {name: version(name) for name in LIBRARIES}


def write_corpus(home: Path) -> None:
    """Write all cases into two folders below `home`, and what they were made with."""
    for kind, cases in (("valid", VALID), ("invalid", INVALID)):
        for case in cases:
            case.write(home / kind / case.name)
    (home / "made-with.json").write_text(json.dumps(made_with(), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Replace the committed corpus."""
    with tempfile.TemporaryDirectory(dir=HERE) as temporary:
        write_corpus(Path(temporary))
        for name in ("valid", "invalid"):
            shutil.rmtree(HERE / name, ignore_errors=True)
            (Path(temporary) / name).rename(HERE / name)
        (Path(temporary) / "made-with.json").rename(HERE / "made-with.json")
    sys.stdout.write(f"{len(VALID)} valid and {len(INVALID)} invalid cases\n")


if __name__ == "__main__":
    main()
