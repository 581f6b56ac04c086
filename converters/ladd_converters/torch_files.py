"""Opening somebody else's .pt files without running anything that is in them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from ladd_data import ConvertError, UsageError

_KNOWN_TEXT = (
    (
        b"version https://git-lfs",
        "a Git-LFS pointer, not the file itself",
        'Run "git lfs pull" in its repository.',
    ),
    (
        b"<!doctype html",
        "a web page",
        "The download failed: fetch the file again, following the page's link.",
    ),
    (b"<html", "a web page", "The download failed: fetch the file again, following the page's link."),
)


def read_tensor(path: Path) -> Tensor:
    """Return the one tensor that a .pt file holds: detached, contiguous, on the CPU.

    Raises:
        UsageError: there is no such file.
        ConvertError: the file is something else, is damaged, or would run code; says which.
    """
    content = read_torch(path)
    if not isinstance(content, Tensor):
        raise ConvertError(f"{path}: found {_say(content)}; expected one bare tensor. Is this another method's file?")
    return content.detach().cpu().contiguous()


def read_torch(path: Path) -> object:
    """Return what a .pt file holds, built from tensors and plain containers only.

    Raises:
        UsageError: there is no such file.
        ConvertError: not a torch file, damaged, or it names a global (which could run code).
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    with path.open("rb") as file:
        head = file.read(64)
    for start, what, fix in _KNOWN_TEXT:
        if head.lower().startswith(start):
            raise ConvertError(f"{path}: found {what}; expected a torch file. {fix}")
    if not head:
        raise ConvertError(f"{path}: found an empty file; expected a torch file. Download it again.")
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConvertError(_say_refused(path, str(error))) from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConvertError(f"{path}: found a damaged torch file ({reason}). Download it again.") from error
    return content


def _say_refused(path: Path, message: str) -> str:
    wanted = re.search(r"GLOBAL\s+(\S+)", message)
    if wanted is None:
        return f"{path}: found bytes that are not a torch file of plain tensors. Nothing in it was run."
    return (
        f'{path}: found a pickle that wants "{wanted[1]}"; expected plain tensors. Nothing in it was run. '
        "If you trust it, open it yourself and save its tensors with torch.save."
    )


def _say(content: object) -> str:
    if isinstance(content, dict):
        keys = ", ".join(repr(key) for key in list(content)[:4])
        return f"a dictionary with keys {keys}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    return f"a {type(content).__name__}"
