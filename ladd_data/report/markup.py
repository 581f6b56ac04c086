"""HTML built from elements: every text and attribute is escaped here, and nowhere else."""

from __future__ import annotations

import html
import json


class Markup(str):
    """Text that is HTML already, made by this module."""

    __slots__ = ()


Child = str | Markup | None
_VOID = {"meta", "img"}


def element(name: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """Return an element as HTML.

    Args:
        name: of the element.
        children: text, which is escaped, or elements; None is left out.
        attributes: `class_` is class, `aria_label` is aria-label; None is left out. Values are escaped.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>") if name in _VOID else Markup(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Return children in a row, texts escaped."""
    return Markup("".join(one if isinstance(one, Markup) else html.escape(one) for one in children if one is not None))


def data_block(name: str, value: object) -> Markup:
    """Return JSON that a page's script can read; a "<" in it is written so that it cannot end the block."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{html.escape(name)}">{text}</script>')
