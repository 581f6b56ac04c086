"""How far a labeling run has come, beside its target: verified before it is used, never trusted.

`.NAME.progress/` holds a file of labels for each finished shard (parts.py) and, written after it, a line
of the journal with its SHA-256. A line counts only for a run whose every byte would be the same: it is
sealed together with the digest of all that decides the bytes.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ladd_data.errors import UsageError
from ladd_data.files import canonical_json, parse_json_strictly, read_limited, sha256_file, write_atomically
from ladd_data.labeling.parts import Part
from ladd_data.manifest import MANIFEST_PATH

Facts = dict[str, str]
"""All that decides the bytes of a labelled dataset, by the names that a message can use."""


class Progress:
    """The progress folder of one target."""

    def __init__(self, target: Path, manifest: str = MANIFEST_PATH) -> None:
        """Name the folder; nothing is made yet. `manifest`: the file by which the target is known to be made."""
        target, self._manifest = target.resolve(), manifest
        self._target = target
        self.folder = target.with_name(f".{target.name}.progress")
        self._key = ""

    def recorded(self) -> Facts:
        """Return what an earlier run noted of itself; empty where there was none, or none that can be read."""
        facts = _unseal(self.folder / "run.json")
        return {str(name): str(value) for name, value in facts.items()} if isinstance(facts, dict) else {}

    def open(self, facts: Facts, shards: int, *, restart: bool) -> dict[int, Part]:
        """Make the folder or take it over, and return the parts that are finished and sound.

        Args:
            facts: of this run.
            shards: in all.
            restart: forget what there is.

        Raises:
            UsageError: an earlier run of another kind was cut short here; says what differs.
        """
        before, lines = self.recorded(), list(self.folder.glob("part-*.json"))
        fresh = restart or self._is_done() or not lines
        if fresh:
            self.discard()
        elif before != facts:
            raise UsageError(self._say_differences(before, facts, len(lines), shards))
        try:
            self.folder.mkdir(exist_ok=True)
            (self.folder / "stop").unlink(missing_ok=True)
            write_atomically(self.folder / "run.json", _seal(facts))
        except OSError:
            if fresh:
                self.discard()
            raise
        self.adopt(facts)
        return {number: part for number in range(shards) if (part := self.find(number)) is not None}

    def adopt(self, facts: Facts) -> None:
        """Use a folder that another rank has opened."""
        self._key = hashlib.sha256(canonical_json(facts)).hexdigest()

    def path(self, shard: int) -> Path:
        """Return the file of a shard's labels."""
        return self.folder / f"part-{shard:05d}.labels"

    def save(self, part: Part) -> None:
        """Write a part's line of the journal; its file must be on the disk."""
        document = {"key": self._key, "part": part.model_dump(mode="json")}
        write_atomically(self._line(part.shard), _seal(document))

    def stop_others(self) -> None:
        """Tell the other ranks that this one has failed."""
        (self.folder / "stop").touch()

    @property
    def stopped(self) -> bool:
        """Whether some rank has failed."""
        return (self.folder / "stop").exists()

    def note_result(self, manifest: bytes) -> None:
        """Write down what all this becomes, by which a later run knows that it has become it."""
        write_atomically(self.folder / "result", hashlib.sha256(manifest).hexdigest().encode())

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def count(self) -> int:
        """Return how many parts are finished, unverified."""
        return len(list(self.folder.glob("part-*.json")))

    def _is_done(self) -> bool:
        """Tell whether the target is what this folder was for: the run was cut short while sweeping up."""
        try:
            result = (self.folder / "result").read_text()
            return sha256_file(self._target / self._manifest) == result
        except OSError:
            return False

    def _line(self, shard: int) -> Path:
        return self.folder / f"part-{shard:05d}.json"

    def find(self, shard: int) -> Part | None:
        """Return a finished part whose line is sealed, of this run, and true of its file."""
        document = _unseal(self._line(shard))
        if not isinstance(document, dict) or document.get("key") != self._key:
            return None
        try:
            part = Part.model_validate(document["part"])
            path = self.path(shard)
            sound = part.shard == shard and path.stat().st_size == part.bytes and sha256_file(path) == part.sha256
        except (ValidationError, FileNotFoundError, KeyError):
            return None
        return part if sound else None

    def _say_differences(self, before: Facts, facts: Facts, done: int, shards: int) -> str:
        names = [name for name in {**before, **facts} if before.get(name) != facts.get(name)]
        differences = "; ".join(
            f"{name}: {_short(before.get(name, 'unknown'))} then, {_short(facts.get(name, 'unknown'))} now"
            for name in names
        )
        return (
            f"{self.folder}: holds {done} of {shards} shards of a run that was cut short and differs from this one "
            f"in {differences}. Repeat that call to go on with it, or add --restart to throw its work away."
        )


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."


def _seal(document: Any) -> bytes:
    """Return a document with its own SHA-256."""
    return canonical_json({"document": document, "sha256": hashlib.sha256(canonical_json(document)).hexdigest()})


def _unseal(path: Path) -> Any:
    """Return a sealed document; None where it is missing, damaged or edited."""
    try:
        whole = parse_json_strictly(read_limited(path))
        sound = whole["sha256"] == hashlib.sha256(canonical_json(whole["document"])).hexdigest()
        return whole["document"] if sound else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
