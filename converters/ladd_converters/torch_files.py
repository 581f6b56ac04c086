"""Opening somebody else's .pt files without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import reprlib
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ladd_data import ConvertError, UsageError

_PAGE = "The download failed: fetch the file again, following the page's link."
_KNOWN_TEXT = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the file itself", 'Run "git lfs pull" in its repository.'),
    (b"<!doctype html", "a web page", _PAGE),
    (b"<html", "a web page", _PAGE),
)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # how torch files begin: since torch 1.6, and before
_TRUST = "Nothing in it was run. If you trust it, open it yourself and save its tensors with torch.save."


def read_tensor(path: Path) -> Tensor:
    """Return the one tensor that a .pt file holds: dense, detached, contiguous, on the CPU.

    Raises:
        UsageError: there is no such file.
        ConvertError: the file is something else, is damaged, or would run code; says which.
    """
    content = read_torch(path)
    if not isinstance(content, Tensor):
        raise ConvertError(f"{path}: found {_say(content)}; expected one bare tensor. Is this another method's file?")
    if content.layout is not torch.strided or content.is_quantized or content.is_meta:
        kind = "quantized" if content.is_quantized else "empty (meta)" if content.is_meta else "sparse"
        raise ConvertError(f"{path}: found a tensor that is {kind}; expected a dense one with its values.")
    _check_size(path, content.numel() * content.element_size())
    return content.detach().cpu().contiguous()


def read_torch(path: Path) -> object:
    """Return what a .pt file holds, built from tensors and plain containers only.

    Raises:
        UsageError: there is no such file.
        ConvertError: not a torch file, damaged, or it names a global (which could run code).
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'is not a file' if path.exists() else 'no such file'}.")
    try:
        _check_start(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd files; the error below says it once
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except ConvertError:
        raise
    except pickle.UnpicklingError as error:
        raise ConvertError(_say_refused(path, str(error))) from error
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # a flipped byte can raise nearly anything, struct.error and AssertionError included
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        found = f"a torch file that is damaged or of a kind not known ({reason})"
        raise ConvertError(f"{path}: found {found}; expected plain tensors. Download it again.") from error
    return content


def _check_start(path: Path) -> None:
    """Refuse what is not a torch file by its first bytes, and a zip file that unfolds."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ConvertError(f"{path}: found an empty file; expected a torch file. Download it again.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, what, fix in _KNOWN_TEXT:
        if text.startswith(start):
            raise ConvertError(f"{path}: found {what}; expected a torch file. {fix}")
    if not head.startswith((_ZIP, _PICKLE)):
        raise ConvertError(f"{path}: found bytes that begin {head[:16]!r}; expected a torch file. Download it again.")
    if head.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(entry.file_size for entry in archive.infolist()))


def _check_size(path: Path, unfolded: int) -> None:
    """Refuse a small file that asks for much memory: torch.save neither compresses nor repeats values."""
    size = path.stat().st_size
    if unfolded > size:
        raise ConvertError(
            f"{path}: found {size} bytes that unfold to {unfolded}; expected what torch.save writes, which holds "
            "every value. If you trust it, open it yourself and save a clone() of its tensor."
        )


def _say_refused(path: Path, message: str) -> str:
    wanted = re.search(r"GLOBAL\s+([\w.]+)", message)
    if wanted is not None:
        return f'{path}: found a pickle that wants "{wanted[1]}"; expected plain tensors. {_TRUST}'
    if f"operand {pickle.FRAME[0]}" in message:
        return f"{path}: found a pickle of protocol 4 or newer; expected torch's own, 2. {_TRUST}"
    return f"{path}: found a pickle that is not of plain tensors, or is damaged; expected a torch file. {_TRUST}"


def _say(content: object) -> str:
    if isinstance(content, dict):
        keys = ", ".join(reprlib.repr(key) for key in list(content)[:4])
        return f"a dictionary with keys {keys}" if keys else "an empty dictionary"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    return f"a {type(content).__name__}"
