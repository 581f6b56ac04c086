"""Validation: everything that is wrong with a dataset folder, in one report. No torch here.

Three levels, each including the one before: `metadata` reads meta/ and the card, `structure` compares
files, checksums, footers and columns, `full` decodes every record and checks what it holds. A shard that
fails a level is not read by the next: hostile bytes never reach a decoder, and one cause gives one message.
"""

from __future__ import annotations

from pathlib import Path

from ladd_data.errors import DatasetError
from ladd_data.shards.folder import check_list, check_shards, read_metadata
from ladd_data.types import Level
from ladd_data.validation.card import check_card, check_croissant
from ladd_data.validation.records import RecordCheck
from ladd_data.validation.report import Findings, Report
from ladd_data.validation.sets import check_sets
from ladd_data.validation.statements import check_statements

__all__ = ["Report", "validate"]


def validate(path: str | Path, level: Level = "full") -> Report:
    """Check a dataset folder.

    Args:
        path: the folder.
        level: how deep to look.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset.
    """
    path = Path(path)
    findings, records = Findings(), 0
    try:
        folder = read_metadata(path)
    except DatasetError as error:
        findings.add(*error.problems)
        return findings.report(path, level, records)
    findings.add(*check_statements(folder.manifest))
    findings.add(*check_card(folder))
    sound = False
    if level != "metadata":
        listing, by_shard = check_list(folder), check_shards(folder, verify=True)
        findings.add(*listing, *(problem for found in by_shard for problem in found))
        if level == "full":
            good = [shard for shard, found in zip(folder.shards, by_shard, strict=True) if not found]
            whole = len(good) == len(folder.shards) and not listing
            check = RecordCheck(folder, findings)
            records = check.run(good, whole=whole)
            sound = check.complete
    check_sets(folder, level, findings, sound=sound)
    if not findings:  # what is wrong with the data makes these metadata wrong, too
        findings.add(*check_croissant(folder))
    return findings.report(path, level, records)
