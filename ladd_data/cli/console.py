"""What the commands share: progress on a terminal, JSON on stdout, the choice of a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from ladd_data.errors import LaddError, UsageError

if TYPE_CHECKING:
    import torch

    from ladd_data.team import Ranks

SOURCE_HELP = "The dataset: a folder; or one of the Hub, user/repo or hf://datasets/user/repo@revision."
Source = Annotated[str, typer.Argument(metavar="DIR", help=SOURCE_HELP)]
"""Every command that reads a dataset takes it so: `remote.find_folder` says which of them it is."""
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
LabelSetName = Annotated[
    str | None, typer.Option("--labels", help="A label set of the dataset, in place of the labels in its records.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the target.")]

Bf16 = Annotated[bool, typer.Option("--bf16", help="Run the network under autocast to bfloat16.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Compute in memory format NHWC.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")]
CudaGraphs = Annotated[bool, typer.Option("--cuda-graphs", help="Compile, and replay CUDA graphs.")]
"""How students are computed: see deploy/options.py."""


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal's stderr, nothing in a pipe; yields a function of (done, total)."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


@contextmanager
def one_voice(ranks: Ranks) -> Iterator[None]:
    """Let rank 0 alone say what all ranks raise."""
    try:
        yield
    except LaddError as error:
        if ranks.leads:
            raise
        raise typer.Exit(error.exit_code) from error


def choose_device(name: str) -> torch.device:
    """Turn a --device into a torch device.

    Raises:
        UsageError: not a device of this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not to be had on this machine ({reason}). Use cpu or auto.") from error
    return device
