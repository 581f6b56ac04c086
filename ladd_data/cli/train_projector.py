"""`ladd train-projector`: a label set that is a small network, which makes labels when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ladd_data.cli.console import AsJson, Device, Overwrite, choose_device, print_json, progress_bar
from ladd_data.cli.train_labeler import SOURCE_HELP
from ladd_data.errors import UsageError

if TYPE_CHECKING:
    from ladd_data.dataset import Dataset
    from ladd_data.manifest_projector import OnlineViews
    from ladd_data.projector.plan import ProjectorPlan
    from ladd_data.sources import ImageSet

BACKBONE_HELP = "The public network below: timm:NAME, by default CLIP's RN50."
WEIGHTS_HELP = "Its weights, a safetensors file; else timm's published ones are downloaded."
REFERENCE_HELP = "Model repository of the Hub that they are published in, such as timm/resnet50_clip.openai."


def train_projector(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset; its images stay as they are.")],
    teacher: Annotated[list[Path], typer.Option(help="A labeler to learn from; may be repeated: the mean is learned.")],
    data: Annotated[str, typer.Option(help=SOURCE_HELP)],
    name: Annotated[str, typer.Option("--as", help="The label set's name.")],
    val: Annotated[str | None, typer.Option(help="Real test images; else a tenth of the data is held out.")] = None,
    backbone: Annotated[str, typer.Option(help=BACKBONE_HELP)] = "timm:resnet50_clip",
    backbone_weights: Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)] = None,
    backbone_reference: Annotated[str | None, typer.Option(help=REFERENCE_HELP)] = None,
    backbone_revision: Annotated[str | None, typer.Option(help="Its commit, 40 digits.")] = None,
    keep_backbone: Annotated[bool, typer.Option("--keep-backbone", help="Store its weights in the set, too.")] = False,
    size: Annotated[int | None, typer.Option(min=1, help="Side of its input; else that of its weights.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters beside its layers.")] = 8,
    alpha: Annotated[
        float | None, typer.Option(help="Adapters weigh alpha / rank; alpha is the rank if left out.")
    ] = None,
    head_rank: Annotated[int, typer.Option(min=1, help="Of the head; HeLlO: 64 of 100 classes, 128 of 1000.")] = 64,
    head: Annotated[str, typer.Option(help="How it begins: prototypes, text or zeros.")] = "prototypes",
    text: Annotated[Path | None, typer.Option(help="For --head text: safetensors, [classes, features].")] = None,
    unit_features: Annotated[bool, typer.Option("--unit-features", help="Scale features to length 1.")] = False,
    temperature: Annotated[float, typer.Option(help="Logits are divided by it; CLIP's own is 0.01.")] = 1.0,
    views: Annotated[str, typer.Option(help="What to label if not told: random, full, or a grid as 5:5/8.")] = "random",
    dtype: Annotated[str, typer.Option(help="Of what is stored: float32 or float16.")] = "float32",
    epochs: Annotated[int, typer.Option(min=1)] = 20,
    lr: Annotated[float, typer.Option(help="AdamW's.")] = 5e-4,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.01,
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    hard_weight: Annotated[float, typer.Option(min=0, help="Of cross-entropy beside the squared error.")] = 0.1,
    least: Annotated[float, typer.Option(min=0.01, max=1, help="Smallest side of the crops learned on.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run, if there is one.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Train a network of a few megabytes upon a public backbone, and store it as a label set (HeLlO).

    Its labels are made when they are read: ladd.load_online(DIR, "NAME"), or ladd train DIR --labels NAME.
    """
    from ladd_data.manifest_projector import Adapters, ProjectorTraining
    from ladd_data.projector.plan import BackboneChoice, HeadChoice, ProjectorPlan

    if overwrite and resume:
        raise UsageError("--resume goes on with a run, --overwrite starts it anew: give one of them.")
    if not lr > 0 or not temperature > 0 or (alpha is not None and not alpha > 0):
        raise UsageError("--lr, --temperature and --alpha: expected more than 0.")
    start, kind = _one_of("--head", head, ("prototypes", "text", "zeros")), _one_of("--dtype", dtype, _DTYPES)
    if (text is not None) != (start == "text"):
        raise UsageError("--text goes with --head text, and --head text with --text.")
    weights = backbone_weights, backbone_reference, backbone_revision
    plan = ProjectorPlan(
        BackboneChoice(backbone, *weights, size=size, keep=keep_backbone),
        HeadChoice(cast(Literal["prototypes"], start), text, head_rank, unit_features, temperature),
        Adapters(rank=rank, alpha=alpha or rank),
        ProjectorTraining(
            source=data,
            epochs=epochs,
            lr=lr,
            weight_decay=weight_decay,
            batch_size=batch_size,
            hard_weight=hard_weight,
            least=least,
            seed=seed,
        ),
        _parse_views(views),
        cast(Literal["float32"], kind),
    )
    job = _Job(directory, name, plan, teacher, data, val, device, overwrite, resume, json)
    job.run()


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    directory: Path
    name: str
    plan: ProjectorPlan
    teachers: list[Path]
    data: str
    val: str | None
    device: str
    overwrite: bool
    resume: bool
    json: bool

    def run(self) -> None:
        """Train, and say what came of it."""
        from ladd_data.dataset import load
        from ladd_data.labeling.labeler import load_labeler
        from ladd_data.projector.training import train_projector as run

        dataset, place = load(self.directory), choose_device(self.device)
        images = _load(self.data, dataset)
        epochs, say = self.plan.training.epochs, _say_nothing if self.json else typer.echo
        with progress_bar("training") as on_batch:
            trained = run(
                dataset,
                self.name,
                self.plan,
                [load_labeler(path) for path in self.teachers],
                images,
                _load(self.val, dataset) if self.val is not None else None,
                device=place,
                overwrite=self.overwrite,
                resume=self.resume,
                on_epoch=lambda epoch, loss, share: say(
                    f"epoch {epoch:3d}/{epochs}  loss {loss:.4f}  held-out accuracy {share:.2%}"
                ),
                on_batch=on_batch,
            )
        _report(self.directory, self.name, trained.statement.model_dump(mode="json"), self.json)


_DTYPES = ("float32", "float16")


def _report(directory: Path, name: str, statement: dict[str, object], as_json: bool) -> None:
    from ladd_data.ledger import count_projector
    from ladd_data.shards.folder import read_metadata
    from ladd_data.shards.projectors import open_projector

    size = count_projector(open_projector(read_metadata(directory), name))
    if as_json:
        print_json({"statement": statement, "bytes": size.as_dict()})
        return
    public = f"{size.stored + size.public:,} with the public files that it needs"
    typer.echo(f"wrote label set {name}: {size.stored:,} bytes; {public}")


def _say_nothing(message: str) -> None:
    pass


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"{option} {value}: expected {', '.join(known)}.")
    return value


def _parse_views(text: str) -> OnlineViews:
    from ladd_data.manifest import Full
    from ladd_data.manifest_projector import RandomBoxes
    from ladd_data.views.geometry import grid

    if text in ("random", "full"):
        return RandomBoxes() if text == "random" else Full()
    n, colon, ratio = text.partition(":")
    if not colon or not n.isdecimal():
        raise UsageError(f"--views {text}: expected random, full, or a grid such as 5:5/8.")
    return grid(int(n), ratio)


def _load(source: str, dataset: Dataset) -> ImageSet:
    from ladd_data.sources import load_images, match_classes

    images = dataset.manifest.images
    if images.height != images.width:
        raise UsageError(f"the dataset has {images.width}x{images.height} images; labelers here take squares.")
    return match_classes(load_images(source, images.height, images.channels), dataset.manifest.classes)
