"""Opening somebody else's .pt files without running anything that is in them.

Only `torch.load(weights_only=True)` is used. NumPy numbers (accuracies beside the tensors) and, where they are asked
for, arrays are let through by the stand-ins of pickled_arrays.py, for the one call and not for the process: nothing of
NumPy is called with what a file says. What a file is, if not what was wanted, is said in one line.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import reprlib
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from ladd_converters.pickled_arrays import ARRAYS, NUMBERS, PickledArray, names_of, to_array
from ladd_data import ConvertError, UsageError

_PAGE = "The download failed: fetch the file again, following the page's link."
_KNOWN_TEXT = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the file itself", 'Run "git lfs pull" in its repository.'),
    (b"<!doctype html", "a web page", _PAGE),
    (b"<html", "a web page", _PAGE),
)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # how torch files begin: since torch 1.6, and before
_TRUST = "Nothing in it was run. If you trust it, open it yourself and save its tensors with torch.save."
_PICKLES_OF_OLD = 4  # magic number, protocol, system; then what was saved
_WEIGHTS = "the weights of a network (a teacher's checkpoint?), not a dataset"


_BUILDERS = {
    "collections.OrderedDict",
    "_codecs.encode",  # the bytes of a NumPy number
    "torch.Size",
    "torch.serialization._get_layout",
    "torch.storage.TypedStorage",
    *(f"torch._utils._rebuild_{what}" for what in ("tensor", "tensor_v2", "tensor_v3", "parameter", "sparse_tensor")),
    "torch._utils._rebuild_meta_tensor_no_storage",
    *names_of(NUMBERS),
}
"""What tensors and plain containers are made of. torch allows more, some of which takes any amount of memory, or puts
attributes in the place of a tensor's methods."""
_TYPES = re.compile(r"torch\.(\w+Storage|u?int\d+|b?float\d+\w*|bool|complex\d+)")


def read_tensor(path: Path) -> Tensor:
    """Return the one tensor that a .pt file holds: dense, detached, contiguous, on the CPU.

    Raises:
        UsageError: there is no such file.
        ConvertError: the file is something else, is damaged, or would run code; says which.
    """
    content = read_torch(path)
    if not isinstance(content, Tensor):
        raise ConvertError(f"{path}: found {say_content(content)}; expected one bare tensor.")
    return dense(path, content)


def dense(path: Path, tensor: Tensor) -> Tensor:
    """Return a tensor of a file that was opened: dense, detached, contiguous, on the CPU.

    Raises:
        ConvertError: it is sparse, quantised, without values, or unfolds to more than the file holds.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized else "empty (meta)" if tensor.is_meta else "sparse"
        raise ConvertError(f"{path}: found a tensor that is {kind}; expected a dense one with its values.")
    _check_size(path, tensor.numel() * tensor.element_size())
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def read_torch(path: Path, *, arrays: bool = False) -> object:
    """Return what a .pt file holds, built from tensors, numbers and plain containers only.

    Args:
        path: of the file.
        arrays: take NumPy arrays of numbers, too, in a list.

    Raises:
        UsageError: there is no such file.
        ConvertError: not a torch file, damaged, or it names a global (which could run code).
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'is not a file' if path.exists() else 'no such file'}.")
    try:
        allowed = [*NUMBERS, *(ARRAYS if arrays else [])]
        _check_start(path, _BUILDERS | names_of(allowed))
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")  # torch's remarks on odd files; the error below says it once
            content: object = torch.load(path, map_location="cpu", weights_only=True)
        _strip(content)
        if isinstance(content, list):
            content = [to_array(item) if isinstance(item, PickledArray) else item for item in content]
    except ConvertError:
        raise
    except pickle.UnpicklingError as error:
        raise ConvertError(_say_refused(path, str(error))) from error
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # a flipped byte can raise nearly anything, struct.error and AssertionError included
        reason = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:120]
        found = f"a torch file that is damaged or of a kind not known ({reason})"
        raise ConvertError(f"{path}: found {found}; expected plain tensors. Download it again.") from error
    return content


def _strip(content: object) -> None:
    """Take the attributes off all dictionaries in a file: they might stand in the place of methods."""
    waiting, seen = [content], set[int]()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, OrderedDict):
            item.__dict__.clear()
        if isinstance(item, dict):
            waiting += OrderedDict.values(item) if isinstance(item, OrderedDict) else item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item


def say_content(content: object) -> str:
    """Say in a few words what a file holds, and which converter it is for where that shows."""
    if isinstance(content, Tensor):
        return f"one bare tensor, {say_tensor(content)} (a pair of such files is for ladd convert mtt, or tensors)"
    if isinstance(content, Mapping):
        return _say_mapping(content)
    if isinstance(content, list | tuple):
        return _say_sequence(content)
    return f"a {type(content).__name__}"


def say_tensor(tensor: Tensor) -> str:
    """Return a tensor's type and shape as a person reads them, such as "float32 [10, 3, 32, 32]"."""
    return f"{say_dtype(tensor)} {list(tensor.shape)}"


def say_dtype(tensor: Tensor) -> str:
    """Return a tensor's type, such as "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def _say_mapping(content: Mapping[object, object]) -> str:
    keys = set(map(str, list(content)[:1000]))
    if {"dataset", "data", "label"} <= keys:
        return "GIFT's dictionary of dataset, data and label (ladd convert gift reads it)"
    if isinstance(content.get("data"), list | tuple):
        return "DC's dictionary of data and accuracies (ladd convert dc reads it; datadam, if DataDAM wrote it)"
    if keys & {"state_dict", "model", "net_parameters", "model_state_dict"} or _are_weights(content):
        return _WEIGHTS
    shown = ", ".join(reprlib.repr(key) for key in list(content)[:4])
    return f"a dictionary with keys {shown}" if shown else "an empty dictionary"


def _are_weights(content: Mapping[object, object]) -> bool:
    tensors = [key for key, value in content.items() if isinstance(value, Tensor)]
    return bool(tensors) and all(isinstance(key, str) and re.search(r"weight$|bias$|\.", key) for key in tensors)


def _say_sequence(content: Sequence[object]) -> str:
    kind, count = type(content).__name__, len(content)
    first = content[0] if count else None
    if count == 2 and isinstance(first, Tensor) and first.dim() == 4 and isinstance(content[1], Tensor):
        return "IDC's list of images and labels (ladd convert idc reads it)"
    if 6 <= count <= 8 and isinstance(first, Tensor) and first.dim() == 2:
        return f"a batch of FKD labels ({kind} of {count}: crops, flips, mixing, outputs) without its images"
    if isinstance(first, list | tuple) and first and _holds_parameters(first):
        return f"a replay buffer: the weights of {count} teacher(s) over their training, not a dataset"
    return f"a {kind} of {count}"


def _holds_parameters(items: Sequence[object]) -> bool:
    """Tell whether a list, or each list in it, is of a network's parameters: tensors of several ranks."""
    inner = items[0] if items and isinstance(items[0], list | tuple) else items
    tensors = [item for item in inner if isinstance(item, Tensor)]
    return len(tensors) == len(inner) > 2 and len({tensor.dim() for tensor in tensors}) > 1


def _check_start(path: Path, known: set[str]) -> None:
    """Refuse what is not a torch file by its first bytes, and a zip file that unfolds."""
    head = refuse_text(path, "a torch file")
    if not head.startswith((_ZIP, _PICKLE)):
        raise ConvertError(f"{path}: found bytes that begin {head[:16]!r}; expected a torch file. Download it again.")
    if not head.startswith(_ZIP):
        with path.open("rb") as file:
            for _ in range(_PICKLES_OF_OLD):
                if file.peek(1):
                    _check_names(path, file, known)
        return
    if not zipfile.is_zipfile(path):
        raise ConvertError(f"{path}: found a torch file that was cut short; expected all of it. Download it again.")
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(entry.file_size for entry in archive.infolist()))
        for entry in archive.infolist():
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as pickled:
                    _check_names(path, pickled, known)


def refuse_text(path: Path, expected: str) -> bytes:
    """Refuse an empty file, a Git-LFS pointer and a web page for what they are; return the first bytes of others.

    Raises:
        ConvertError: it is one of these.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ConvertError(f"{path}: found an empty file; expected {expected}. Download it again.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, what, fix in _KNOWN_TEXT:
        if text.startswith(start):
            raise ConvertError(f"{path}: found {what}; expected {expected}. {fix}")
    return head


def _check_names(path: Path, pickled: IO[bytes], known: set[str]) -> None:
    """Refuse a pickle by the names in it, before anything of it is built.

    Raises:
        ConvertError: one is not of tensors and plain containers.
        ValueError: it is damaged.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            name = str(argument).replace(" ", ".")
            if name not in known and not _TYPES.fullmatch(name):
                raise ConvertError(_say_refused(path, f"GLOBAL {name}"))


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
        what = (
            " (a NumPy array; FKD's label files hold such, which ladd convert fkd reads)"
            if wanted[1].endswith("_reconstruct")
            else ""
        )
        return f'{path}: found a pickle that wants "{wanted[1]}"{what}; expected plain tensors. {_TRUST}'
    if f"operand {pickle.FRAME[0]}" in message:
        return f"{path}: found a pickle of protocol 4 or newer; expected torch's own, 2. {_TRUST}"
    return f"{path}: found a pickle that is not of plain tensors, or is damaged; expected a torch file. {_TRUST}"
