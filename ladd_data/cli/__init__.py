"""The command line: one file a command, parsing and printing only.

Exit codes: 0 done, 1 the data is at fault, 2 the call is at fault.
"""

import sys
from typing import Annotated

import typer

from ladd_data import __version__
from ladd_data.cli.cache import cache
from ladd_data.cli.check_labels import check_labels
from ladd_data.cli.convert import convert
from ladd_data.cli.demo import demo
from ladd_data.cli.evaluate import evaluate
from ladd_data.cli.export import export
from ladd_data.cli.info import info
from ladd_data.cli.label import label
from ladd_data.cli.labels import labels
from ladd_data.cli.pull import pull
from ladd_data.cli.push import push
from ladd_data.cli.rates import rates
from ladd_data.cli.reencode import reencode
from ladd_data.cli.train import train
from ladd_data.cli.train_labeler import train_labeler
from ladd_data.cli.train_projector import train_projector
from ladd_data.cli.validate import validate
from ladd_data.cli.view import view
from ladd_data.errors import LaddError

app = typer.Typer(
    name="ladd",
    help="Label-augmented distilled datasets: convert, label, check, train.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    *(convert, train_labeler, label, train_projector, labels, check_labels, reencode, rates),
    *(export, info, validate, view),
    *(push, pull, train, evaluate, demo),
):
    app.command(command.__name__.replace("_", "-"))(command)
app.add_typer(cache)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ladd-data {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Hold the options that come before a command."""


def main() -> None:
    """Run the command line; an error of ours becomes its message and exit code."""
    try:
        app()
    except LaddError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'file system'}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped.", err=True)
        sys.exit(130)
