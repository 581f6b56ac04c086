"""A new card over an old one: what people wrote into the old one stays."""

from __future__ import annotations

from typing import Any

import yaml

from ladd_data.card.header import read_card_header
from ladd_data.card.sections import read_sections, split_card, write_sections

_OURS = ("configs", "dataset_info", "ladd")
"""Keys that say what the data is: an old value would be wrong."""
_OUR_TAGS = ("ladd-", "soft-labels", "knowledge-distillation")
"""Tags that follow from the data, or begin so: those of an old version go."""


def merge_cards(new: str, old: str) -> str:
    """Return the new card with what people wrote into the old one: YAML keys, tags, and sections.

    A section that carries the tools' mark (`card.sections`) is replaced, or dropped where the new card has none of
    its kind. Every other section is a person's: it stays as it is, after ours, and in place of ours where both have
    one heading; one that the new card has as a person's is the new card's. Of YAML keys that both have, the new
    card's holds.

    Raises:
        ValueError: the new card has no YAML block.
    """
    ours, (_, body) = read_card_header(new), split_card(new)
    try:
        theirs, old_body = read_card_header(old), split_card(old)[1]
    except ValueError:
        theirs, old_body = {}, split_card(old)[1]
    merged = ours | {key: value for key, value in theirs.items() if key not in ours and key not in _OURS}
    if tags := _join_tags(ours.get("tags"), theirs.get("tags")):
        merged["tags"] = tags
    made = read_sections(body)
    own = {section.heading for section in made if not section.made}
    kept = [section for section in read_sections(old_body) if not section.made and section.heading not in own]
    if merged == ours and not kept:
        return new
    header = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True, width=1000)
    taken = {section.heading for section in kept}
    return f"---\n{header}---\n\n{write_sections([*(one for one in made if one.heading not in taken), *kept])}"


def _join_tags(ours: Any, theirs: Any) -> list[str]:
    """Return our tags and then theirs; not those that were about the old version."""
    first = list(ours) if isinstance(ours, list) else []
    more = theirs if isinstance(theirs, list) else []
    return first + [tag for tag in more if tag not in first and not str(tag).startswith(_OUR_TAGS)]
