"""A new card over an old one: what people wrote into the old one stays."""

from __future__ import annotations

from typing import Any

import yaml

from ladd_data.card.header import read_card_header

_OURS = ("configs", "dataset_info", "ladd")
"""Keys that say what the data is: an old value would be wrong."""


def merge_cards(new: str, old: str) -> str:
    """Return the new card with what the old one has more: YAML keys, tags, and sections under headings of their own.

    Where both say something, the new card holds. Text of the old card that stands under a heading which the new
    card has too, or a key that describes the data, is not kept: it was about the old version.

    Raises:
        ValueError: the new card has no YAML block.
    """
    ours, body = read_card_header(new), _body(new)
    try:
        theirs, old_body = read_card_header(old), _body(old)
    except ValueError:
        theirs, old_body = {}, old if not old.startswith("---\n") else _body(old)
    merged = ours | {key: value for key, value in theirs.items() if key not in ours and key not in _OURS}
    if tags := _join_tags(ours.get("tags"), theirs.get("tags")):
        merged["tags"] = tags
    headings = {heading for heading, _ in _sections(body)}
    if "ladd" in theirs:
        headings.add(f"# {theirs.get('pretty_name')}")  # the title that the old version had
    kept = [text.strip("\n") for heading, text in _sections(old_body) if heading not in headings and text.strip()]
    if merged == ours and not kept:
        return new
    header = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True, width=1000)
    joined = "\n\n".join([body.strip("\n"), *kept])
    return f"---\n{header}---\n\n{joined}\n"


def _join_tags(ours: Any, theirs: Any) -> list[str]:
    """Return our tags and then theirs; not those of another version of the format."""
    first = list(ours) if isinstance(ours, list) else []
    more = theirs if isinstance(theirs, list) else []
    return first + [tag for tag in more if tag not in first and not str(tag).startswith("ladd-")]


def _body(text: str) -> str:
    """Return what follows the YAML block."""
    parts = text.split("---\n", 2)
    return parts[2] if len(parts) == 3 and not parts[0].strip() else text


def _sections(body: str) -> list[tuple[str, str]]:
    """Return (heading, text with its heading) of each section; what stands before all headings becomes "## About"."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in body.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and line.startswith(("# ", "## ")):
            sections.append((line.strip(), []))
        sections[-1][1].append(line)
    if any(line.strip() for line in sections[0][1]):  # it needs a heading to be known by at the next push
        sections[0] = ("## About", ["## About", "", *sections[0][1]])
    return [(heading, "\n".join(lines)) for heading, lines in sections]
