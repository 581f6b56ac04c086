"""The code in a dataset's card: right for this dataset's edition, columns and shapes; every line is tested."""

from __future__ import annotations

from ladd_data.manifest import ByRecord, Labels, Manifest
from ladd_data.shards.layout import layout_of
from ladd_data.types import Edition


def write_snippets(manifest: Manifest, edition: Edition) -> list[str]:
    """Return the lines of the card's section "Load it": plain libraries first, then ours."""
    plain = {"parquet": _with_datasets, "webdataset": _with_datasets_from_tar, "arrow": _with_datasets_from_arrow}
    blocks = [plain[edition](manifest)]
    if edition == "webdataset":
        blocks.append(_with_webdataset(manifest))
    if edition == "arrow":
        blocks.append(_with_pyarrow(manifest))
    blocks.append(_with_ours(manifest))
    return ["## Load it", "", *(line for block in blocks for line in ("```python", *block, "```", ""))]


_LOAD = ["from datasets import load_dataset", "", 'train = load_dataset("PATH_OR_REPO")["train"]']


def _with_datasets(manifest: Manifest) -> list[str]:
    if manifest.labels is None:
        return [*_LOAD, "record = train[0]", 'record["image"], record["label"]  # a PIL image, the hard class']
    return [*_LOAD, *_dense_lines(manifest, "image", "label", "")]


def _with_datasets_from_tar(manifest: Manifest) -> list[str]:
    image = _suffix(manifest)
    if manifest.labels is None:
        return [*_LOAD, "record = train[0]", f'record["{image}"], record["cls"]  # a PIL image, the hard class']
    return [*_LOAD, *_dense_lines(manifest, image, "cls", ".npy")]


def _with_datasets_from_arrow(manifest: Manifest) -> list[str]:
    images = manifest.images
    lines = ["import numpy as np", *_LOAD]
    pixels = f'np.array(train[0]["image"], np.uint8)  # ({images.channels}, {images.height}, {images.width})'
    if manifest.labels is None:
        return [*lines, pixels, 'train[0]["label"]  # the hard class']
    return [*lines, pixels, *_dense_lines(manifest, "", "label", "")]


def _with_webdataset(manifest: Manifest) -> list[str]:
    names = (_suffix(manifest), "cls", *(f"{column}.npy" for column in _columns(manifest)[:1]))
    shown = ", ".join(f'record["{name}"]' for name in names)
    return [
        "from glob import glob",
        "import webdataset",
        "",
        'shards = sorted(glob("PATH/data/*.tar"))',
        'for record in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):',
        f"    {shown}  # a PIL image, an int, arrays",
    ]


def _with_pyarrow(manifest: Manifest) -> list[str]:
    images = manifest.images
    return [
        "from glob import glob",
        "import pyarrow as pa",
        "",
        'for path in sorted(glob("PATH/data/*.arrow")):',
        "    reader = pa.ipc.open_file(pa.memory_map(path))",
        "    for number in range(reader.num_record_batches):",
        "        batch = reader.get_batch(number)",
        '        flat = batch["image"].flatten().flatten().flatten().to_numpy()  # mapped, not copied',
        f"        pixels = flat.reshape(len(batch), {images.channels}, {images.height}, {images.width})  # uint8",
    ]


def _with_ours(manifest: Manifest) -> list[str]:
    lines = ["import ladd_data as ladd", "", 'dataset = ladd.load("PATH")']
    loader = 'dataset.loader(batch_size=256, shuffle=True, seed=0, device="cpu")'
    normalised = "    x = dataset.model_input({})  # float32, normalised"
    views = "    crops = dataset.views({})  # the same for every view, bit-equal to what the labeler saw"
    labels = manifest.labels
    if labels is not None and isinstance(labels.views, ByRecord):  # they differ from record to record
        lines += [f"for batch in {loader}:", normalised.format("batch.image")]
        return [*lines, views.format("batch.image, index=batch.index")]
    lines += [f"for image, label, dense in {loader}:", normalised.format("image")]
    return [*lines, views.format("image")] if labels is not None else lines


def _suffix(manifest: Manifest) -> str:
    """Return what the members of a tar that hold images are called."""
    return layout_of(manifest).suffix


def _columns(manifest: Manifest) -> list[str]:
    """Return the names of the label columns that a first look wants."""
    if manifest.labels is None:
        return []
    coding = manifest.labels.coding
    if coding.encoding == "topk":
        return ["dense_topk_ids", "dense_topk_log_probs", "dense_tail_log_prob"]
    if coding.encoding == "dense":
        return [f"dense_{coding.space}"]
    return [f"dense_{coding.encoding}", f"dense_{coding.encoding}_scale"]


def _dense_lines(manifest: Manifest, image: str, label: str, suffix: str) -> list[str]:
    """Return the lines of plain Python that read this dataset's kind of labels.

    image, label: names of those columns; an image of no name is left out. suffix: of label columns.
    """
    labels, classes = manifest.labels, len(manifest.classes.names)
    if labels is None:
        return []
    names = [f'record["{name}{suffix}"]' for name in _columns(manifest)]
    coding, shape = labels.coding, f"({labels.count}, {classes})"
    if coding.encoding == "topk":
        return [
            "record = train[0]",
            f"ids, values = {names[0]}, {names[1]}  # {labels.count} views x {coding.k} classes, log-probabilities",
            f"tail = {names[2]}  # log of what all other classes have together, per view",
        ]
    if coding.encoding in ("q8", "q4"):
        return _packed_lines(labels, names, classes, packed=not suffix)
    column = _columns(manifest)[0] + suffix
    shown = [*([f'record["{image}"]'] if image else []), f'record["{label}"]', f"{names[0]}.shape"]
    notes = [*(["a PIL image"] if image else []), "the hard class", shape]
    lines = [
        f'train = train.with_format("numpy", columns=["{column}"], output_all_columns=True)',
        "record = train[0]",
        f"{', '.join(shown)}  # {', '.join(notes)}",
    ]
    if coding.space == "log_probs":
        lines.append(f"# The column holds log-probabilities: take exp, never softmax of exp, of {names[0]}.")
    if coding.space == "probs":
        lines.append("# The column holds probabilities: never put a softmax on them.")
    return lines


def _packed_lines(labels: Labels, names: list[str], classes: int, *, packed: bool) -> list[str]:
    """Return the lines that decode q8 or q4; `packed` where the codes come as bytes, not as a list."""
    codes = "codes" if labels.coding.encoding == "q8" else "np.stack([codes & 15, codes >> 4], -1)"
    read = f"np.frombuffer({names[0]}, np.uint8)" if packed else f"np.array({names[0]}, np.uint8)"
    return [
        "import numpy as np",
        "record = train[0]",
        f"codes = {read}.reshape({labels.count}, -1)",
        f"codes = {codes}.reshape({labels.count}, -1)[:, :{classes}]",
        f"values = -np.array({names[1]}, np.float32)[:, None] * codes",
        f"probs = np.exp(values) / np.exp(values).sum(1, keepdims=True)  # ({labels.count}, {classes})",
    ]
