"""What labels made on the fly cost and gain, against stored labels of equal bytes; real digits, minutes on one core.

    python benchmarks/projector.py [--work projector-run] [--seeds 3] [--epochs 20]

No public weights are needed: the backbone is timm's least network of the family of CLIP's RN50, trained here to tell
which way round real digits are turned. It has seen such pictures, but no class; a real public one may know more.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

import torch
from safetensors.torch import save_file
from study_sets import SIZE, WIDTH, Sets
from torch import nn

import ladd_data as ladd
from ladd_data.dataset import Dataset
from ladd_data.deploy.train import train_students
from ladd_data.labeling.add import add_labels
from ladd_data.labeling.drawing import BoxDraw
from ladd_data.labeling.label import LabelPlan
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Boxes, Coding, Normalization
from ladd_data.manifest_projector import Adapters, ProjectorTraining, RandomBoxes
from ladd_data.models import describe_network
from ladd_data.pixels import natural_affine
from ladd_data.projector.network import build_backbone
from ladd_data.projector.plan import BackboneChoice, HeadChoice, ProjectorPlan
from ladd_data.projector.training import default_recipe, train_projector
from ladd_data.recipe import Recipe
from ladd_data.shards.folder import read_metadata
from ladd_data.shards.projectors import open_projector
from ladd_data.views.device import apply_affine

IPC, EPOCHS = 5, 300
BACKBONE, RANKS = "timm:test_byobnet", (1, 4)
CODING = Coding(encoding="dense", space="logits", dtype="float16")
LABELER_EPOCH, TURNING_EPOCHS = 10, 12


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: bytes of labels, and of public files beside; students; processor seconds for each."""

    name: str
    bytes: int
    public: int
    mean: float
    std: float
    seconds: float

    def __str__(self) -> str:
        public = f"{self.public:,}" if self.public else "-"
        accuracy = f"{100 * self.mean:.1f} ± {100 * self.std:.1f}"
        return f"| {self.name} | {self.bytes:,} | {public} | {accuracy} | {self.seconds:.1f} |"


def train(name: str, dataset: Dataset, recipe: Recipe, sets: Sets, seeds: int, size: int, public: int = 0) -> Row:
    student = describe_network("convnet-d3", classes=10, channels=3, size=SIZE, width=WIDTH)
    began = time.process_time()
    results = train_students(dataset, student, recipe, sets.test, seeds)
    row = Row(name, size, public, results.mean, results.std, (time.process_time() - began) / seeds)
    print(row, flush=True)
    return row


def teach_turns(sets: Sets) -> nn.Module:
    """Return a backbone that has learned by how many right angles a digit is turned: public knowledge of no class."""
    torch.manual_seed(0)
    network, last = build_backbone(BACKBONE, 0, SIZE).train(), nn.Linear(256, 4)
    optimizer = torch.optim.AdamW([*network.parameters(), *last.parameters()], 2e-3)
    half = natural_affine(Normalization(mean=(0.5,) * 3, std=(0.5,) * 3))
    images = apply_affine(half, torch.from_numpy(sets.train.images))
    for epoch in range(TURNING_EPOCHS):
        for rows in torch.split(torch.from_numpy(epoch_order(len(images), 0, epoch)), 128):
            turns = torch.from_numpy(epoch_order(len(rows), 1, int(rows[0]))) % 4
            pairs = zip(rows.tolist(), turns.tolist(), strict=True)
            turned = torch.stack([torch.rot90(images[row], turn, (1, 2)) for row, turn in pairs])
            loss = nn.functional.cross_entropy(last(network(turned)), turns)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    print(f"backbone: tells turns of the last batch with a cross-entropy of {loss.item():.2f}")
    return network.eval()


def store(folder: Path, sets: Sets, views: int) -> int:
    """Add stored labels of so many boxes of each image, and return their bytes."""
    labeler, boxes = ladd.load_labeler(sets.labeler(LABELER_EPOCH)), Boxes(count=views)
    plan = LabelPlan(labeler, boxes, CODING, torch.device("cpu"), boxes=BoxDraw(least=0.5))
    name = f"boxes-{views}"
    if not (folder / "labels" / name).is_dir():
        add_labels(ladd.load(folder), plan, name)
    return sum(path.stat().st_size for path in (folder / "labels" / name).glob("*.parquet"))


def project(folder: Path, sets: Sets, backbone: Path, rank: int, epochs: int) -> None:
    """Add a projector, if it is not there from an earlier run, and say how well it learned."""
    name, teacher = f"rank-{rank}", ladd.load_labeler(sets.labeler(LABELER_EPOCH))
    if not (folder / "labels" / name).is_dir():
        training = ProjectorTraining(source="digits:train", epochs=epochs, lr=1e-2, batch_size=32, flip=False)
        choice, head = BackboneChoice(BACKBONE, backbone, size=2 * SIZE), HeadChoice("zeros", rank=10)
        adapters = Adapters(rank=rank, alpha=4 * rank)
        plan = ProjectorPlan(choice, head, adapters, training, RandomBoxes(flip=False), "float16")
        train_projector(ladd.load(folder), name, plan, [teacher], sets.train, sets.test, resume=True)
    network = ladd.load_online(folder, name, backbone=backbone).network()
    pixels = torch.from_numpy(sets.test.images)
    with torch.no_grad():
        ours = network(pixels, natural_affine(network.spec.backbone.normalization)).argmax(1)
        theirs = teacher.network((pixels / 255 - 0.5) / 0.5).argmax(1)
    right, agrees = (float((ours == other).float().mean()) for other in (torch.from_numpy(sets.test.labels), theirs))
    print(f"{name}: accuracy {right:.1%}, agrees with its teacher on {agrees:.1%}", flush=True)


def keep_backbone(path: Path, sets: Sets) -> Path:
    """Train the backbone, if its weights are not there from an earlier run, and return their file."""
    if not path.is_file():
        save_file(teach_turns(sets).state_dict(), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("projector-run"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=20, help="of the projectors; a --work folder has those of one run"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(exist_ok=True)
    sets = Sets(options.work)
    backbone = keep_backbone(options.work / "backbone.safetensors", sets)
    folder = sets.plain("random", IPC)
    print(f"teacher: accuracy {100 * (ladd.load_labeler(sets.labeler(LABELER_EPOCH)).description.accuracy or 0):.1f} %")
    for rank in RANKS:
        project(folder, sets, backbone, rank, options.epochs)
    recipe, seeds = default_recipe().model_copy(update={"epochs": EPOCHS}), options.seeds
    hard = recipe.model_copy(update={"loss": "hard-ce", "hard_weight": None, "views_per_step": None})
    print("| labels | bytes | public bytes beside | accuracy | CPU seconds a student |\n|---|---|---|---|---|")
    train("hard labels only", ladd.load(folder), hard, sets, seeds, 0)
    for rank in RANKS:
        files = open_projector(read_metadata(folder), f"rank-{rank}")
        views = max(1, round(files.bytes / (IPC * 10 * (10 * 2 + 8))))  # float16 logits and a box of four uint16
        size = store(folder, sets, views)
        train(f"{views} stored boxes", ladd.load(folder, labels=f"boxes-{views}"), recipe, sets, seeds, size)
        online = ladd.load_online(folder, f"rank-{rank}", backbone=backbone)
        public = files.statement.public_bytes
        train(f"projector of rank {rank}", online, recipe, sets, seeds, files.bytes, public)
    few = store(folder, sets, 25)
    train("25 stored boxes", ladd.load(folder, labels="boxes-25"), recipe, sets, seeds, few)


if __name__ == "__main__":
    main()
