"""Ranges of bytes from somewhere: a local folder, http(s), the Hugging Face Hub, anything fsspec knows.

Faults of transport (a 5xx, a dropped connection, a body cut short, a time-out) are tried again, a bounded number
of times; an answer that is an answer (404, 403) never is. Every wait has an end, so a server that dies is an error.

Source: RFC 9110, section 14 (range requests); https://huggingface.co/docs/hub/api (resolve, revision).
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import uniform
from typing import Any, Generic, NamedTuple, TypeVar

from ladd_data.errors import LaddError, UsageError
from ladd_data.files import MAX_JSON_BYTES
from ladd_data.loaders.reading.source import LocalSource, Source, SourceError

PIECE_BYTES = 8 * 2**20
"""Fetched by one request, and what is fetched again after a fault."""
_STOP_SECONDS = 0.1
"""How soon a wait ends that nobody needs any more."""
_RETRIED_STATUS = (408, 425, 429)
_PASSING = (OSError, EOFError)
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to ask again.

    attempts: requests for the same bytes, the first included.
    timeout: seconds that one request of at most 8 MiB may take.
    pause: seconds before the second attempt; doubled for each further one, with jitter, up to 30.
    """

    attempts: int = 5
    timeout: float = 60.0
    pause: float = 0.5

    def __post_init__(self) -> None:
        """Refuse waits without an end."""
        if self.attempts < 1 or not 0 < self.timeout < float("inf") or not 0 <= self.pause < float("inf"):
            raise UsageError(f"{self}: expected at least 1 attempt, a timeout above 0 and a pause of at least 0.")


class StoppedError(LaddError):
    """A wait that was ended because nobody wants the bytes any more."""


class ShortError(EOFError):
    """A body that ended before the range did."""


class RemoteSource(Source):
    """A folder behind requests that may fail; subclasses make a single one.

    Each request runs in a daemon thread, so that it has a deadline whatever the library below does, and so that
    nobody waits for it who wants to stop.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        """Ask for nothing yet."""
        super().__init__(name)
        self._patience = patience

    def size(self, path: str) -> int | None:
        """Return a file's bytes, asked again where needed."""
        return self._retry(path, lambda: self._size(path))

    def read_into(self, path: str, start: int, target: memoryview) -> None:
        """Fill `target` a piece at a time, each asked again where needed."""
        for at in range(0, len(target), PIECE_BYTES):
            piece = target[at : at + PIECE_BYTES]

            def fetch(first: int = start + at, piece: memoryview = piece) -> None:
                piece[:] = self._read(path, first, first + len(piece))

            self._retry(path, fetch)

    def read_all(self, path: str) -> bytes | None:
        """Return a metadata file whole."""
        try:
            return self._retry(path, lambda: self._read_all(path))
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    @abstractmethod
    def _size(self, path: str) -> int | None: ...

    @abstractmethod
    def _read(self, path: str, start: int, stop: int) -> bytes: ...

    @abstractmethod
    def _read_all(self, path: str) -> bytes: ...

    def _retry(self, path: str, act: Callable[[], _T]) -> _T:
        """Return what `act` returns, tried again after faults of transport only."""
        faults: list[str] = []
        while True:
            try:
                return self._within(act)
            except _PASSING as error:
                faults.append(_say(error))
                final, last = _is_final(error), len(faults) == self._patience.attempts
                if final or last:
                    raise SourceError(self._describe(path, faults, final)) from error
            wait = min(30.0, self._patience.pause * 2 ** (len(faults) - 1))
            if self.stop.wait(uniform(0.5, 1.0) * wait):  # jitter: ranks that failed together come back one by one
                raise StoppedError

    def _within(self, act: Callable[[], _T]) -> _T:
        """Return what `act` returns; a call that takes too long is left to end by itself."""
        answers: queue.SimpleQueue[_Answer[_T]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put(_Answer(act(), None))
            except BaseException as error:
                answers.put(_Answer(None, error))

        threading.Thread(target=run, name="ladd-fetch", daemon=True).start()
        deadline = time.monotonic() + self._patience.timeout
        while not self.stop.is_set():
            with suppress(queue.Empty):
                answer = answers.get(timeout=max(0.0, min(_STOP_SECONDS, deadline - time.monotonic())))
                break
            if time.monotonic() >= deadline:
                raise TimeoutError(f"a time-out after {self._patience.timeout:g} s")
        else:
            raise StoppedError
        error = answer.error
        if error is None:
            return answer.value  # type: ignore[return-value]
        if isinstance(error, LaddError | OSError | EOFError):
            raise error
        raise OSError(f"{type(error).__name__}: {error}") from error

    def _describe(self, path: str, faults: list[str], final: bool) -> str:
        where = f"{self.name}: {path}"
        if final:
            return f"{where}: found {faults[-1]}; expected its bytes. Check the address and your access."
        listed = "; ".join(f"{number}: {fault}" for number, fault in enumerate(faults, 1))
        return f"{where}: found no answer in {len(faults)} attempts ({listed}); expected its bytes. Try again later."


class HttpSource(RemoteSource):
    """A folder on an HTTP server that answers range requests."""

    def __init__(self, name: str, base: str, patience: Patience, secret: str | None = None) -> None:
        """Ask for nothing yet; `secret`: the value of Authorization, which redirects to other hosts do not get."""
        super().__init__(name, patience)
        self._base, self._secret = base.rstrip("/"), secret

    def _size(self, path: str) -> int | None:
        with self._open(path, 0, 1) as answer:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            return int(total) if total.isdigit() else None

    def _read(self, path: str, start: int, stop: int) -> bytes:
        with self._open(path, start, stop) as answer:
            return _drain(answer, stop - start, exact=True)

    def _read_all(self, path: str) -> bytes:
        with self._request(path, None) as answer:
            return _drain(answer, MAX_JSON_BYTES + 1, exact=False)

    def _open(self, path: str, start: int, stop: int) -> Any:
        answer = self._request(path, f"bytes={start}-{stop - 1}")
        if answer.status != 206:
            answer.close()
            raise UsageError(
                f"{self.name}: the server answers a range request with status {answer.status} and the whole file; "
                "streaming needs ranges (206). Use another server, or copy the folder here first."
            )
        if not answer.headers.get("Content-Range", f"bytes {start}-").startswith(f"bytes {start}-"):
            answer.close()
            raise ShortError(f"another range ({answer.headers['Content-Range']})")
        return answer

    def _request(self, path: str, span: str | None) -> Any:
        address = f"{self._base}/{urllib.parse.quote(path)}"
        request = urllib.request.Request(address, headers={"Accept-Encoding": "identity"})
        if span:
            request.add_header("Range", span)
        if self._secret:
            request.add_unredirected_header("Authorization", self._secret)
        try:
            return urllib.request.urlopen(request, timeout=self._patience.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise FileNotFoundError(f"status {error.code}") from error
            raise


class FsspecSource(RemoteSource):
    """A folder in a file system of fsspec."""

    def __init__(self, name: str, patience: Patience) -> None:
        """Open the file system.

        Raises:
            UsageError: fsspec does not know the protocol, or the package that does is not installed.
        """
        import fsspec

        super().__init__(name, patience)
        try:
            self._files, self._base = fsspec.core.url_to_fs(name)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{name}: {error}. Install what fsspec needs for it, or copy the folder here.") from error

    def _size(self, path: str) -> int | None:
        size = self._files.size(self._at(path))
        return None if size is None else int(size)

    def _read(self, path: str, start: int, stop: int) -> bytes:
        data: bytes = self._files.cat_file(self._at(path), start=start, end=stop)
        if len(data) != stop - start:
            raise ShortError(f"{len(data)} bytes where {stop - start} were asked for")
        return data

    def _read_all(self, path: str) -> bytes:
        data: bytes = self._files.cat_file(self._at(path), start=0, end=MAX_JSON_BYTES + 1)
        return data

    def _at(self, path: str) -> str:
        return f"{self._base.rstrip('/')}/{path}"


class _Answer(NamedTuple, Generic[_T]):
    value: _T | None
    error: BaseException | None


def open_source(place: str | Path, patience: Patience) -> Source:
    """Return the source of a path, or of an address: http(s)://, hf://datasets/USER/NAME[@REVISION], fsspec's others.

    Raises:
        UsageError: the address is of no kind that is known.
        SourceError: the Hub cannot be reached, or knows no such dataset.
    """
    text = os.fspath(place)
    scheme, found, rest = text.partition("://")
    if not found or scheme == "file":
        return LocalSource(Path(rest if found else text))
    if scheme in ("http", "https"):
        return HttpSource(text, text, patience)
    if scheme == "hf":
        return _open_hub(text, rest, patience)
    return FsspecSource(text, patience)


def _open_hub(text: str, rest: str, patience: Patience) -> HttpSource:
    """Return the source of a dataset on the Hub, at the commit that the revision names now."""
    from huggingface_hub import constants, get_token

    kind, _, name = rest.strip("/").partition("/")
    name, _, revision = name.partition("@")
    if kind != "datasets" or name.count("/") != 1:
        raise UsageError(f"{text}: expected hf://datasets/USER/NAME or hf://datasets/USER/NAME@REVISION.")
    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"{text}: HF_HUB_OFFLINE is set. Unset it, or stream a local copy.")
    token = get_token()
    secret = f"Bearer {token}" if token else None
    hub = HttpSource(text, f"{constants.ENDPOINT}/api/datasets/{name}/revision", patience, secret)
    answer = hub.read_all(urllib.parse.quote(revision or "main", safe=""))
    try:
        commit = json.loads(answer or b"")["sha"]
    except (ValueError, KeyError, TypeError):
        found = "no such dataset or revision" if answer is None else "an answer without a commit"
        raise SourceError(f"{text}: the Hub has {found}. Check the name, the revision and your token.") from None
    return HttpSource(text, f"{constants.ENDPOINT}/datasets/{name}/resolve/{commit}", patience, secret)


def _drain(answer: Any, size: int, *, exact: bool) -> bytes:
    """Return a body of `size` bytes, or, unless `exact`, of at most so many; ShortError for one that is cut."""
    data: bytes = answer.read(size)
    stated = answer.headers.get("Content-Length", "")
    expected = size if exact else min(size, int(stated)) if stated.isdigit() else 0
    if len(data) < expected:
        raise ShortError(f"a body that ends after {len(data)} of {expected} bytes")
    return data


def _is_final(error: BaseException) -> bool:
    """Say whether asking again cannot help: an answer by status, or a path that is not there."""
    status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status < 500 and status not in _RETRIED_STATUS
    return isinstance(error, _FINAL)


def _say(error: BaseException) -> str:
    """Return a fault in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = " ".join(str(reason).split())[:200]
    name = type(reason).__name__ if isinstance(reason, BaseException) else "error"
    return f"{name} ({text})" if text and not isinstance(reason, ShortError | FileNotFoundError) else text or name
