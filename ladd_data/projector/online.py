"""A dataset whose dense labels a projector makes while they are read: the one place that builds its network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ladd_data.dataset import Dataset
from ladd_data.errors import DatasetError, LabelError, UsageError
from ladd_data.loaders.decode import decode_dense
from ladd_data.loaders.loader import Loader
from ladd_data.loaders.mapstyle import MapDataset
from ladd_data.loaders.placement import Choice
from ladd_data.loaders.schedule import Last, Slots
from ladd_data.manifest import Certificate, Coding, Labels, Manifest, ViewSpec, count_views
from ladd_data.manifest_projector import BACKBONE_FILE, HEAD_FILE, WEIGHTS, OnlineViews, ProjectorSet, RandomBoxes
from ladd_data.projector.loader import OnlineLoader
from ladd_data.projector.network import ProjectorNetwork, build_backbone, load_backbone, load_head, load_weights
from ladd_data.projector.public_files import find_public
from ladd_data.projector.views import Cutting, OnlineCutter, spec_of
from ladd_data.remote import find_folder
from ladd_data.shards.bare import without_labels
from ladd_data.shards.folder import Folder, check_files, read_metadata
from ladd_data.shards.projectors import ProjectorFiles, open_projector
from ladd_data.types import Array, Batch, DenseSpace, Record
from ladd_data.views.device import apply_affine
from ladd_data.views.golden import digest_view
from ladd_data.views.mixing import Pixels

if TYPE_CHECKING:
    import datasets

CODING = Coding(encoding="dense", space="logits", dtype="float32")
"""What a projector's labels are, as if they were stored."""
GOLDEN_TOLERANCE = 1e-3
"""By which the probability of a golden view may differ: other processors and devices sum in other orders."""


def load_online(
    path: str | Path,
    labels: str,
    *,
    backbone: str | Path | None = None,
    head: str | Path | None = None,
    views: OnlineViews | Literal["stored"] | None = None,
    revision: str | None = None,
    verify: bool = True,
) -> OnlineDataset:
    """Open a dataset with labels that a projector makes on the fly. This builds a network, and runs it.

    It is a known architecture with plain weights; no code comes from the dataset. The backbone's weights are taken
    from `backbone`, from the label set if it holds them, or are downloaded from the Hub by the name and commit that the
    projector states; whichever it is, the file's SHA-256 has to be the one that the projector was trained upon.

    Args:
        path: the dataset: a folder, or one of the Hub.
        labels: the projector, a label set of the dataset.
        backbone: the safetensors file of the backbone's weights.
        head: the safetensors file of the head's W, where the projector begins with one and does not hold it.
        views: what to label: a grid, the whole image, boxes drawn anew each epoch, or "stored", the views of the
            labels in the records; None for what the projector states.
        revision: of a dataset on the Hub.
        verify: compare all files with their checksums, and the network with the golden views.

    Raises:
        UsageError: there is no such projector, timm is not installed, or a file is missing; says how to give it.
        DatasetError: a file of the dataset is not what is stated of it.
        LabelError: a public file is another one, or the network does not give the labels that it gave.
    """
    home, _ = find_folder(path, revision, labels)
    folder = read_metadata(home)
    files = open_projector(folder, labels)
    if problems := check_files(folder, verify=verify) + files.check(values=True):
        raise DatasetError(problems)
    network = open_network(files, backbone=backbone, head=head)
    dataset = OnlineDataset(folder, files.statement, network, views)
    if verify:
        dataset.check_golden()
    return dataset


def open_network(
    files: ProjectorFiles, *, backbone: str | Path | None = None, head: str | Path | None = None
) -> ProjectorNetwork:
    """Return a projector's network, on the CPU, whose own files have been checked; errors as of `load_online`."""
    stated = files.statement.projector
    public = stated.backbone
    network = build_backbone(public.name, public.outputs, public.size)
    given, kept = Path(backbone) if backbone is not None else None, files.path / BACKBONE_FILE
    option = "backbone=PATH, or --backbone-weights PATH"
    load_backbone(network, find_public(public.weights, given, kept, option, "the backbone's weights"))
    base = None
    if stated.head.base is not None:
        given, kept = Path(head) if head is not None else None, files.path / HEAD_FILE
        path = find_public(stated.head.base, given, kept, "head=PATH, or --head-weights PATH", "the head's start")
        base = load_head(path, files.statement.width, public.features)
    projector = ProjectorNetwork(stated, network, base, files.statement.width)
    load_weights(projector, files.path / WEIGHTS)
    return projector.requires_grad_(False)


class OnlineDataset(Dataset):
    """A dataset folder, opened with a projector. Made by `load_online`; batches are those of any `Dataset`."""

    def __init__(
        self,
        folder: Folder,
        statement: ProjectorSet,
        network: ProjectorNetwork,
        views: OnlineViews | Literal["stored"] | None = None,
    ) -> None:
        """Wrap a folder whose files were verified and a network on the CPU."""
        bare = without_labels(folder)
        super().__init__(bare)
        self.statement = statement
        self._images = Dataset(bare)
        self._stored = Dataset(folder)
        self._networks = {torch.device("cpu"): network}
        images, wanted = folder.manifest.images, views or statement.views
        self._drawn = isinstance(wanted, RandomBoxes)
        self._cutting: Callable[[Tensor, Sequence[int], Array, int, int], Tensor]
        if wanted == "stored":
            if folder.manifest.labels is None:
                raise UsageError(f'{folder.path}: views="stored", but there are no dense labels in its records.')
            spec, self._cutting = folder.manifest.labels.views, self._cut_stored
        else:
            spec, self._cutting = spec_of(wanted), Cutting(wanted, images.height, images.width)
        self._count = count_views(spec)
        self.manifest = _join(folder.manifest, statement, spec)

    def network(self, device: torch.device | str = "cpu") -> ProjectorNetwork:
        """Return the projector's network, in the state in which it labels, on a device."""
        device = torch.device(device)
        if device not in self._networks:
            self._networks[device] = copy.deepcopy(self._networks[torch.device("cpu")]).to(device)
        return self._networks[device]

    def label(self, pixels: Tensor) -> Tensor:
        """Return the logits of any views, float32 [batch, views, classes], computed on their device.

        Args:
            pixels: [batch, views, channels, height, width], stored pixels' 0..255 scale, uint8 or float32.
        """
        return self.network(pixels.device).label(pixels)

    def loader(
        self,
        batch_size: int = 256,
        *,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        placement: Choice = "auto",
        last: Last = "short",
        space: DenseSpace = "probabilities",
        rank: int | None = None,
        world: int | None = None,
    ) -> Loader:
        """Return a loader of batches, as `Dataset.loader` does; each batch's `dense` is computed on the device.

        Boxes that are drawn anew depend on seed, epoch, record and view alone, not on batches or ranks.

        Raises:
            UsageError: a value is out of range.
        """
        where = {"device": device, "placement": placement, "last": last, "rank": rank, "world": world}
        images = self._images.loader(batch_size, shuffle=shuffle, seed=seed, **where)  # type: ignore[arg-type]
        return OnlineLoader(images, partial(self._label_batch, seed, space), self.manifest.digest)

    def views(
        self,
        images: Tensor,
        views: Sequence[int] | None = None,
        *,
        normalize: bool = True,
        index: Tensor | Sequence[int] | None = None,
        pixels: Pixels | None = None,
    ) -> Tensor:
        """Cut views as `Dataset.views` does; drawn ones, whose places change by the epoch, by `batch.views` only.

        Raises:
            UsageError: the views are drawn anew each epoch.
        """
        if self._drawn:
            raise UsageError("these views are drawn anew each epoch: take them from the batch, batch.views().")
        return super().views(images, views, normalize=normalize, index=index, pixels=pixels)

    def __getitem__(self, index: int) -> Record:
        """Return one record with its labels as probabilities; drawn views as they are in epoch 0 of seed 0."""
        record, row = self._images[index], torch.tensor([index % len(self)])
        numbers = range(self._count)
        logits = self.label(self._cutting(record.image[None], numbers, row.numpy(), 0, 0))
        return replace(record, dense_labels=logits[0].softmax(-1))

    def to_torch(self, *, space: DenseSpace = "probabilities") -> MapDataset:
        """Refuse: workers would each build the network.

        Raises:
            UsageError: always.
        """
        raise UsageError("labels made on the fly come from the loader: dataset.loader(...), not to_torch.")

    def to_datasets(self) -> datasets.Dataset:
        """Refuse: there are no stored labels.

        Raises:
            UsageError: always.
        """
        raise UsageError("labels made on the fly come from the loader: dataset.loader(...), not to_datasets.")

    def check_golden(self, device: torch.device | str = "cpu") -> None:
        """Compare the network with the labels that it gave when it was made, on the golden images.

        Raises:
            LabelError: an image is another one, or its label differs by more than another processor explains.
        """
        places = {name: row for row, name in enumerate(self.arrays.ids)}
        for golden in self.statement.golden:
            what = f'label set {self.statement.name}, golden image "{golden.id}"'
            if golden.id not in places:
                raise LabelError(f"{what}: no such record (LADD-103).")
            image = torch.from_numpy(self.arrays.images[places[golden.id]])
            if digest_view(image.to(torch.float32).numpy()) != golden.pixels:
                raise LabelError(f"{what}: the image is another one (LADD-103).")
            probs = self.label(image[None, None].to(device))[0, 0].softmax(-1).cpu()
            found = float(probs[golden.top_class])
            if abs(found - golden.top_prob) > GOLDEN_TOLERANCE:
                raise LabelError(
                    f"{what}: the network gives class {golden.top_class} {found:.5f}; expected {golden.top_prob:.5f} "
                    f"within {GOLDEN_TOLERANCE}. The libraries here build another network: see its `libraries`."
                )

    def _label_batch(self, seed: int, space: DenseSpace, batch: Batch, slots: Slots) -> Batch:
        """Give a batch its labels."""
        cut = partial(self._cut_batch, slots, seed)
        count = self._count
        logits = self.label(cut(batch.image, range(count)))
        dense = decode_dense({"dense_logits": logits}, CODING, len(self.classes), space)
        affine = self.manifest.images.affine
        cutter = OnlineCutter(lambda images, some: apply_affine(affine, cut(images, some)), count, _key(seed, slots))
        return replace(batch, dense=dense, cutter=cutter, space=space)

    def _cut_batch(self, slots: Slots, seed: int, images: Tensor, numbers: Sequence[int]) -> Tensor:
        return self._cutting(images, numbers, slots.index, seed, slots.epoch)

    def _cut_stored(self, images: Tensor, numbers: Sequence[int], rows: Array, seed: int, epoch: int) -> Tensor:
        return self._stored.views(images, numbers, normalize=False, index=torch.from_numpy(rows))


def _key(seed: int, slots: Slots) -> tuple[int, int, int]:
    return seed, slots.epoch, slots.start


def _join(manifest: Manifest, stated: ProjectorSet, views: ViewSpec) -> Manifest:
    """Return the manifest that the dataset would have if these labels stood in its records."""
    exact = Certificate(mean_tv=0, max_tv=0, mean_kl=0, max_kl=0, top1_agreement=1)
    labels = Labels(
        views=views, coding=CODING, certificate=exact, labeler=None, golden=stated.golden, digest=stated.digest
    )
    return manifest.model_copy(update={"labels": labels, "recipe": stated.recipe, "digest": stated.digest})
