"""Every error this package raises on purpose, and `Problem`: one thing wrong with somebody's data.

The ground floor: imports nothing of ours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


class LaddError(Exception):
    """The data at hand cannot be used as it is; the message says where, what, and what to do."""

    exit_code = 1
    """What the command line returns: 1, the data is at fault."""


class UsageError(LaddError):
    """The call is at fault: an option is missing, unknown or contradicts another."""

    exit_code = 2


class ConvertError(LaddError):
    """What a distillation method left on disk cannot become a dataset."""


class LabelError(LaddError):
    """Soft labels cannot be made, encoded, decoded or used as asked."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a dataset: where, what was found, what was expected, what to do.

    `clause` is the number of the rule in spec/ladd-1.0.md that is broken, such as "LADD-023". `where` begins with
    the file; `row` (in that file, from 0) and `id` name the record where one is at fault.
    """

    clause: str
    where: str
    found: str
    expected: str
    fix: str
    row: int | None = None
    id: str | None = None

    @property
    def file(self) -> str:
        """The file's path in the dataset."""
        return self.where.split(", ", 1)[0]

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected} ({self.clause}). {self.fix}"

    def as_dict(self) -> dict[str, str | int | None]:
        """Return all fields and the file, for `--json` reports."""
        return {**asdict(self), "file": self.file}


def say_place(file: str, row: int | None, record: str | None) -> str:
    """Return a `where`: the file, and the record's row in it and id as far as they are known."""
    named = f' (id "{record}")' if record is not None else ""
    return file if row is None else f"{file}, row {row}{named}"


class DatasetError(LaddError):
    """A dataset folder breaks the format; `problems` holds every breach that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems; the message is one line each."""
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the sentence that lists the known names, the nearest first: for "unknown name" messages."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'Did you mean "{close[0]}"? ' if close else ""
    return f"{hint}Known: {', '.join(known)}."
