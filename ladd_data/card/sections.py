"""A card in sections: those that the format's tools make carry a mark, and all others are a person's and stay.

The mark is a comment, which no page shows, on the line below the heading. Whoever deletes it owns the section from
then on: it is neither replaced nor dropped when the next version is pushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MARK = "<!-- Made by ladd, anew for each version: delete this line to keep what you change here. -->"
_MARK_START = "<!-- Made by ladd"
ABOUT = "## About"
LAST = ("## Known limits", "## Citation")
"""Sections that further ones are put before."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its "#", and the lines below it, without the mark."""

    heading: str
    lines: tuple[str, ...]
    made: bool = True
    """Whether it carries the mark."""

    def text(self) -> str:
        """Return it as Markdown, without blank lines around it."""
        body = "\n".join(self.lines).strip("\n")
        mark = f"{MARK}\n" if self.made else ""
        return f"{self.heading}\n{mark}\n{body}" if body else f"{self.heading}\n{mark}".rstrip("\n")


def make_section(title: str, lines: Iterable[str]) -> Section:
    """Return a section of level 2 that the tools make."""
    return Section(f"## {title}", tuple(lines))


def split_card(text: str) -> tuple[str, str]:
    """Return the YAML block with its two lines `---`, empty where there is none, and what follows it."""
    parts = text.split("---\n", 2)
    return (f"---\n{parts[1]}---\n", parts[2]) if len(parts) == 3 and not parts[0].strip() else ("", text)


def read_sections(body: str) -> list[Section]:
    """Return the sections of a card's body; what stands before all headings becomes "## About".

    Text below a heading that no tool made is a person's. Lines in code blocks are no headings.
    """
    found: list[tuple[str, list[str]]] = [("", [])]
    fence = ""
    for line in body.splitlines():
        start = line.lstrip()
        if not fence and start.startswith(("```", "~~~")):
            fence = start[: len(start) - len(start.lstrip(start[0]))]
        elif fence and start.rstrip() == start.rstrip()[:1] * len(start.rstrip()) and start.startswith(fence):
            fence = ""
        elif not fence and line.startswith(("# ", "## ")):
            found.append((line.strip(), []))
            continue
        found[-1][1].append(line)
    if not any(line.strip() for line in found[0][1]):
        found = found[1:]
    return [_section(heading or ABOUT, lines) for heading, lines in found]


def write_sections(sections: Sequence[Section]) -> str:
    """Return sections as the body of a card."""
    return "\n\n".join(section.text() for section in sections) + "\n"


def put_section(card: str, section: Section) -> str:
    """Return a card with a section of the tools replaced, or added before the last ones.

    A person's section under the same heading stays, and the card is as it was.

    Args:
        card: the text of README.md.
        section: such as `make_section("Results", ["| network | accuracy |", ...])`.
    """
    header, body = split_card(card)
    sections = read_sections(body)
    for place, old in enumerate(sections):
        if old.heading == section.heading:
            if not old.made:
                return card
            sections[place] = section
            break
    else:
        last = [place for place, old in enumerate(sections) if old.heading in LAST]
        sections.insert(last[0] if last else len(sections), section)
    return f"{header}\n{write_sections(sections)}"


def take_section(card: str, title: str) -> str:
    """Return a card without a section of the tools; a person's under that heading stays."""
    header, body = split_card(card)
    sections = read_sections(body)
    kept = [one for one in sections if not one.made or one.heading != f"## {title}"]
    return card if len(kept) == len(sections) else f"{header}\n{write_sections(kept)}"


def _section(heading: str, lines: list[str]) -> Section:
    made = bool(lines) and lines[0].startswith(_MARK_START)
    return Section(heading, tuple(lines[1:] if made else lines), made)
