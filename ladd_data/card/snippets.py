"""The code in a dataset's card: right for this dataset's edition, columns and shapes; every line is tested.

Each block of plain Python leaves `image`, `label` and, of datasets with dense labels, `probs` and `crops`.
"""

from __future__ import annotations

from ladd_data.manifest import Boxes, ByRecord, Full, Labels, Manifest, Mix, Opaque
from ladd_data.shards.layout import layout_of
from ladd_data.types import Edition
from ladd_data.views.geometry import crop_side, offsets

PLACEHOLDER = "PATH_OR_REPO"
"""Stands in the code of a card that is not on the Hub yet."""
_FEW = 10
"""Numbers that are written out; of more, the formula."""


def write_snippets(manifest: Manifest, edition: Edition, repo: str | None = None) -> list[str]:
    """Return the Markdown of the card's section "Load it": plain libraries first, then ours.

    Args:
        manifest: of the dataset.
        edition: what the shards are.
        repo: "user/name" on the Hub; a placeholder where left out.
    """
    blocks = {"With `datasets` alone:": _with_datasets(manifest, edition, repo)}
    if edition == "webdataset":
        blocks["With `webdataset`:"] = _with_webdataset(manifest, repo)
    if edition == "arrow":
        blocks["With `pyarrow` alone, mapped from disk, without a copy:"] = _with_pyarrow(manifest, repo)
    blocks["With `ladd-data`, which checks every file and decodes once:"] = _with_ours(manifest, repo)
    lines = []
    if repo is None:
        lines = [f"`{PLACEHOLDER}` is this folder; `ladd push` puts the name of the repository there.", ""]
    for title, block in blocks.items():
        lines += [title, "", "```python", *block, "```", ""]
    return lines


def _with_datasets(manifest: Manifest, edition: Edition, repo: str | None) -> list[str]:
    labels, images = manifest.labels, manifest.images
    tar, pixels = edition == "webdataset", edition == "arrow"
    image, label = (layout_of(manifest).suffix, "cls") if tar else ("image", "label")
    has_numbers = labels is not None or manifest.soft is not None or pixels
    has_crops = labels is not None and not isinstance(labels.views, Full | Opaque)
    kind = f"{images.width}x{images.height} {'RGB' if images.channels == 3 else 'greyscale'}"
    lines = [
        *(["import numpy as np"] if has_numbers else []),
        "from datasets import load_dataset",
        *(["from PIL import Image"] if has_crops or pixels else []),
        "",
        f'train = load_dataset("{repo or PLACEHOLDER}", split="train")',
        "record = train[0]",
    ]
    if pixels:
        turned = "pixels[0]" if images.channels == 1 else "pixels.transpose(1, 2, 0)"
        lines += [
            f'pixels = np.array(record["image"], np.uint8)  # ({images.channels}, {images.height}, {images.width})',
            f"image = Image.fromarray({turned})",
        ]
    else:
        lines.append(f'image = record["{image}"]  # a PIL image, {kind}')
    lines += [f'label = record["{label}"]  # a number; its name: train.features["{label}"].names[label]']
    suffix = ".npy" if tar else ""
    if manifest.soft is not None:
        column = f"soft_{manifest.soft.space}"
        said = f"({len(manifest.classes.names)},): the distiller's own label of the whole image, {manifest.soft.space}"
        lines.append(f'soft = np.array(record["{column}{suffix}"], np.float32)  # {said}')
    if labels is not None:
        lines += [*_decode(labels, len(manifest.classes.names), suffix), *_cut(manifest, labels, suffix)]
    return lines


def _decode(labels: Labels, classes: int, suffix: str) -> list[str]:
    """Return the lines that turn this dataset's label columns into probabilities; `suffix`: of the columns' names."""
    coding, views = labels.coding, labels.count
    shape = f"({views}, {classes}): the probability of each class in each view"
    if coding.encoding == "topk":
        lines = [
            f'ids = np.array(record["dense_topk_ids{suffix}"], np.int64)  # the {coding.k} most probable classes',
            f'kept = np.exp(np.array(record["dense_topk_log_probs{suffix}"], np.float32))',
            f'tail = np.exp(np.array(record["dense_tail_log_prob{suffix}"], np.float32))  # of all others together',
            f"rest = tail[:, None] / {classes - (coding.k or 0)}",
            f"probs = np.repeat(rest, {classes}, axis=1)",
            "np.put_along_axis(probs, ids, np.maximum(kept, rest), axis=1)",
            f"probs /= probs.sum(1, keepdims=True)  # {shape}",
        ]
    elif coding.encoding == "dense":
        lines = _decode_dense(labels, f'record["dense_{coding.space}{suffix}"]', shape)
    else:
        name = f"dense_{coding.encoding}"
        read = (
            f'np.array(record["{name}{suffix}"], np.uint8)' if suffix else f'np.frombuffer(record["{name}"], np.uint8)'
        )
        lines = [f"codes = {read}.reshape({views}, -1)"]
        if coding.encoding == "q4":  # two codes a byte, the first in the low half
            lines.append(f"codes = np.stack([codes & 15, codes >> 4], -1).reshape({views}, -1)[:, :{classes}]")
        lines += [
            f'scale = np.array(record["{name}_scale{suffix}"], np.float32)',
            "probs = np.exp(-scale[:, None] * codes)",
            f"probs /= probs.sum(1, keepdims=True)  # {shape}",
        ]
    if labels.present:
        lines.append(f'present = np.array(record["view_present{suffix}"])  # rows of other views mean nothing')
    return lines


def _decode_dense(labels: Labels, read: str, shape: str) -> list[str]:
    space, made = labels.coding.space, f"np.array({read}, np.float32)"
    if labels.coding.dtype == "bfloat16":
        made = f"(np.array({read}, np.uint32) << 16).view(np.float32)"
    if space == "probs":
        return [f"probs = {made}  # {shape}; no softmax"]
    if space == "logits":
        return [
            f"logits = {made}",
            "probs = np.exp(logits - logits.max(1, keepdims=True))",
            f"probs /= probs.sum(1, keepdims=True)  # {shape}",
        ]
    return [
        f"probs = np.exp({made})  # stored as log-probabilities",
        f"probs /= probs.sum(1, keepdims=True)  # {shape}; what rounding left",
    ]


def _cut(manifest: Manifest, labels: Labels, suffix: str) -> list[str]:
    """Return the lines that cut the views with Pillow: to within a rounding of what the labeler saw."""
    views, images = labels.views, manifest.images
    if isinstance(views, Full):
        return ["crops = [image]  # the one view is the whole image"]
    said = "probs[i] is of crops[i]"
    if isinstance(views, Opaque):
        return ["# the views that these labels are of cannot be cut again"]
    if isinstance(views, Mix):
        return ["# each view is mixed with one of another record: ladd-data cuts them, see below"]
    if isinstance(views, Boxes):
        box = f'boxes = [(x, y, x + width, y + height) for y, x, height, width in record["view_box{suffix}"]]'
    else:
        high, wide = crop_side(views, images.height), crop_side(views, images.width)
        rows, columns = _starts(offsets(views, images.height)), _starts(offsets(views, images.width))
        box = f"boxes = [(x, y, x + {wide}, y + {high}) for y in {rows} for x in {columns}]"
    size = f"({views.size}, {views.size})" if isinstance(views, Boxes) and views.size else "image.size"
    kernel = "BICUBIC" if "bicubic" in views.resample else "BILINEAR"
    lines = [box, f"crops = [image.crop(box).resize({size}, Image.Resampling.{kernel}) for box in boxes]  # {said}"]
    if isinstance(views, Boxes) and views.flip:
        flipped = "crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop"
        lines.append(f'crops = [{flipped} for crop, flip in zip(crops, record["view_flip{suffix}"])]')
    return lines


def _starts(starts: tuple[int, ...]) -> str:
    if len(starts) <= _FEW:
        return str(starts)
    return f"[i * {starts[-1]} // {len(starts) - 1} for i in range({len(starts)})]"


def _with_webdataset(manifest: Manifest, repo: str | None) -> list[str]:
    names = [layout_of(manifest).suffix, "cls", *(f"{name}.npy" for name in layout_of(manifest).dense)]
    shown = ", ".join(f'record["{name}"]' for name in names[:3])
    return [
        "from glob import glob",
        "import webdataset",
        *_find_folder(repo),
        "",
        'shards = sorted(glob(f"{folder}/data/*.tar"))',
        'for record in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):',
        f"    {shown}  # a PIL image, an int{', an array' if len(names) > 2 else ''}",
    ]


def _with_pyarrow(manifest: Manifest, repo: str | None) -> list[str]:
    images = manifest.images
    return [
        "from glob import glob",
        "import pyarrow as pa",
        *_find_folder(repo),
        "",
        'for path in sorted(glob(f"{folder}/data/*.arrow")):',
        "    reader = pa.ipc.open_file(pa.memory_map(path))",
        "    for number in range(reader.num_record_batches):",
        "        batch = reader.get_batch(number)",
        '        flat = batch["image"].flatten().flatten().flatten().to_numpy()',
        f"        pixels = flat.reshape(len(batch), {images.channels}, {images.height}, {images.width})  # uint8",
    ]


def _find_folder(repo: str | None) -> list[str]:
    """Return the lines that set `folder`."""
    if repo is None:
        return ["", f'folder = "{PLACEHOLDER}"']
    return [
        "from huggingface_hub import snapshot_download",
        "",
        f'folder = snapshot_download("{repo}", repo_type="dataset")',
    ]


def _with_ours(manifest: Manifest, repo: str | None) -> list[str]:
    name, labels = repo or PLACEHOLDER, manifest.labels
    boxed = labels is not None and isinstance(labels.views, ByRecord)  # they differ from record to record
    loader = 'dataset.loader(batch_size=256, shuffle=True, seed=0, device="cpu")'
    lines = ["import ladd_data as ladd", "", f'dataset = ladd.load("{name}")']
    if boxed:
        lines += [f"for batch in {loader}:", "    x = dataset.model_input(batch.image)  # float32, normalised"]
        lines.append("    crops = dataset.views(batch.image, index=batch.index)  # bit-equal to what the labeler saw")
    else:
        lines += [f"for image, label, dense in {loader}:", "    x = dataset.model_input(image)  # float32, normalised"]
        if labels is not None and not isinstance(labels.views, Opaque):
            lines.append("    crops = dataset.views(image)  # normalised, bit-equal to what the labeler saw")
    lines += ["", "# Or, without holding it in memory:"]
    lines += [f'for batch in ladd.stream("{name if repo is None else f"hf://datasets/{name}"}", batch_size=256):']
    return [*lines, "    batch.image, batch.label, batch.dense"]
