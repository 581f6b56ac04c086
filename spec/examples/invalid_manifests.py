"""Invalid cases: one mistake in meta/ladd.json, the card, or the shard list."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from building import LABELLED, Document, Plan
from cases import (
    CARD,
    CROISSANT,
    MANIFEST,
    PICTURE,
    SHARD,
    SHARDS,
    Case,
    add_face,
    at,
    both,
    drop,
    edit_list,
    plan_of,
    put,
    set_to,
    swap,
)

PLAIN = Plan()
NESTED = "[" * 70 + "]" * 70


def wrong(name: str, clause: str, about: str, state: Callable[[Document], object], plan: Plan = LABELLED) -> Case:
    """Return a case of a manifest that is wrong everywhere: in its file, the footers and the card."""
    return Case(name, about, plan, state=state, problems=((clause, at(MANIFEST)),))


def edited(name: str, clause: str, about: str, after: Callable[[Path], object], file: str = MANIFEST) -> Case:
    """Return a case of a small dataset in which a file was edited after it was written."""
    return Case(name, about, PLAIN, after=after, problems=((clause, at(file)),))


def many_values(folder: Path) -> None:
    """Give the manifest so many classes and views that a record would not fit into memory."""
    document = json.loads((folder / MANIFEST).read_bytes())
    document["classes"]["names"] = [str(number) for number in range(2049)]
    document["labels"]["views"]["n"] = 64
    document["labels"]["labeler"] = None
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


DOCUMENTS = [
    edited("manifest-empty", "LADD-010", "An empty file.", put(MANIFEST, b"")),
    edited("manifest-not-json", "LADD-010", "A closing brace is missing.", swap(MANIFEST, '  "extensions": {}\n}', "")),
    edited("manifest-nan", "LADD-010", "NaN is no JSON.", swap(MANIFEST, '"rmse": 0.001', '"rmse": NaN')),
    edited(
        "manifest-infinity", "LADD-010", "A number beyond float64.", swap(MANIFEST, '"rmse": 0.001', '"rmse": 1e999')
    ),
    edited("manifest-key-twice", "LADD-010", "A key twice.", swap(MANIFEST, '"name"', '"name": "other",\n  "name"')),
    edited("manifest-byte-order-mark", "LADD-010", "A byte order mark.", swap(MANIFEST, "{", "\ufeff{")),
    edited("manifest-not-utf-8", "LADD-010", "Latin-1.", put(MANIFEST, '{"name": "ä"}'.encode("latin-1"))),
    edited("manifest-half-a-character", "LADD-010", "Half a surrogate pair.", swap(MANIFEST, "cc0-1.0", "\\ud800")),
    edited(
        "manifest-nested-too-deeply",
        "LADD-080",
        "70 lists in each other.",
        swap(MANIFEST, '"extensions": {}', f'"extensions": {{"a": {NESTED}}}'),
    ),
    edited(
        "manifest-edited",
        "LADD-005",
        "Edited after writing: the shards know another name.",
        swap(MANIFEST, '"example"', '"sample"'),
    ),
    edited("manifest-reformatted", "LADD-005", "Reformatted after writing.", swap(MANIFEST, "{\n", "{\n\n")),
    edited("version-missing", "LADD-011", "No spec_version.", swap(MANIFEST, '  "spec_version": "1.0",\n', "")),
    edited(
        "version-a-number",
        "LADD-011",
        "spec_version is a string.",
        swap(MANIFEST, '"spec_version": "1.0"', '"spec_version": 1.0'),
    ),
    wrong("version-newer-major", "LADD-011", "A major version to come.", set_to("spec_version", "2.0")),
    wrong("requires-unknown", "LADD-012", "A feature that no reader knows.", set_to("requires", ["time-travel"])),
]

FIELDS = [
    wrong("field-missing", "LADD-010", "No classes.", drop("recipe")),
    wrong("field-unknown", "LADD-010", "A key that this version does not know.", set_to("surprise", 1)),
    wrong("field-of-wrong-type", "LADD-010", "A count in quotes.", set_to("images.count", "4")),
    wrong("name-with-spaces", "LADD-010", "A name that is no repository name.", set_to("name", "no spaces")),
    wrong("digest-in-capitals", "LADD-010", "A digest in capitals.", set_to("images.digest", "AB" * 32)),
    wrong("channels-four", "LADD-010", "Four channels.", set_to("images.channels", 4)),
    wrong("side-too-long", "LADD-010", "An image of 20000 pixels a side.", set_to("images.width", 20000)),
    wrong("no-class", "LADD-010", "No class at all.", set_to("classes.names", [])),
    wrong(
        "view-kind-unknown", "LADD-010", "A kind of views that is not defined.", set_to("labels.views.kind", "spiral")
    ),
    wrong("grid-too-fine", "LADD-010", "A grid of 65 x 65.", set_to("labels.views.n", 65)),
    wrong("ratio-a-decimal", "LADD-010", "A ratio that is no exact fraction.", set_to("labels.views.ratio", "0.625")),
    wrong("encoding-unknown", "LADD-010", "An encoding that is not defined.", set_to("labels.coding.encoding", "zip")),
    wrong("golden-none", "LADD-013", "No golden view.", set_to("labels.golden", [])),
    wrong(
        "share-above-one",
        "LADD-010",
        "More than all values clipped.",
        set_to("images.quantization.error.clipped_share", 1.5),
    ),
    wrong("affine-of-one-channel", "LADD-013", "One scale for three channels.", set_to("images.affine.scale", [1.0])),
    wrong("class-name-twice", "LADD-013", "Two classes of one name.", set_to("classes.names", ["ant", "ant", "cat"])),
    wrong("class-ids-too-few", "LADD-013", "Two ids for three classes.", set_to("classes.ids", ["1", "2"])),
    wrong(
        "zca-with-normalization",
        "LADD-013",
        "Whitened pixels have no normalization.",
        set_to("images.whitening", "zca"),
    ),
    wrong("ratio-above-one", "LADD-013", "Crops larger than the image.", set_to("labels.views.ratio", "9/8")),
    wrong("logz-of-logits", "LADD-013", "logz beside logits.", set_to("labels.coding.space", "logits")),
    wrong(
        "probs-in-float16",
        "LADD-013",
        "Probabilities that underflow.",
        set_to("labels.coding", {"space": "probs", "dtype": "float16", "logz": False}),
    ),
    wrong(
        "q8-in-float32", "LADD-013", "q8 has float16 scales.", set_to("labels.coding.dtype", "float32"), plan_of("q8")
    ),
    wrong("topk-without-k", "LADD-013", "Top-k of how many?", set_to("labels.coding.k", None), plan_of("topk")),
    wrong("topk-of-all", "LADD-013", "All classes kept.", set_to("labels.coding.k", 3), plan_of("topk")),
    wrong(
        "labeler-of-other-classes",
        "LADD-013",
        "A labeler of four classes.",
        set_to("labels.labeler.network.classes", 4),
    ),
    wrong("golden-view-outside", "LADD-013", "View 9 of 0 .. 8.", set_to("labels.golden.0.view", 9)),
    wrong(
        "affine-not-the-normalization",
        "LADD-027",
        "Clipped pixels whose map is of another normalization.",
        set_to("images.affine.offset", [-1.1, -1.0, -1.0]),
    ),
    wrong(
        "quantization-contradicts-itself",
        "LADD-028",
        "Two errors of the mode chosen.",
        set_to("images.quantization.clip", {"rmse": 0.2, "max_abs": 0.3, "clipped_share": 0.0}),
    ),
    wrong(
        "quantization-mean-above-maximum",
        "LADD-028",
        "An RMSE above the maximum.",
        set_to("images.quantization.error.rmse", 0.5),
    ),
    wrong(
        "zca-clipped",
        "LADD-028",
        "Whitened pixels, clipped.",
        set_to("images.quantization.mode", "clip"),
        replace(PLAIN, whitening="zca", mode="range"),
    ),
    wrong(
        "certificate-mean-above-maximum",
        "LADD-035",
        "A mean above the maximum.",
        set_to("labels.certificate.mean_kl", 1.0),
    ),
    wrong(
        "labeler-input-of-one-channel",
        "LADD-036",
        "One scale for a network of three channels.",
        set_to("labels.labeler.input.scale", [1.0]),
    ),
    wrong(
        "image-too-large",
        "LADD-081",
        "Images of 16384 x 16384 pixels.",
        lambda d: d["images"].update(width=16384, height=16384),
    ),
    Case(
        "dense-labels-too-many",
        "4096 views of 2049 classes.",
        after=many_values,
        problems=(("LADD-081", at(MANIFEST)),),
    ),
    wrong("digest-of-images-wrong", "LADD-025", "Another digest of the images.", set_to("images.digest", "0" * 64)),
    wrong("digest-of-labels-wrong", "LADD-034", "Another digest of the labels.", set_to("labels.digest", "0" * 64)),
    wrong("digest-wrong", "LADD-026", "Another digest of the dataset.", set_to("digest", "0" * 64)),
    wrong("golden-id-unknown", "LADD-042", "A golden view of no record.", set_to("labels.golden.0.id", "none")),
    Case(
        "golden-pixels-wrong",
        "A golden view of other pixels.",
        state=set_to("labels.golden.0.pixels", "0" * 64),
        problems=(("LADD-042", at(SHARD, 0)),),
    ),
    Case(
        "golden-label-wrong",
        "A golden view of another probability.",
        state=set_to("labels.golden.0.top_prob", 0.01),
        problems=(("LADD-043", at(SHARD, 0)),),
    ),
    Case(
        "count-wrong",
        "One record more than there are.",
        state=set_to("images.count", 5),
        problems=(("LADD-021", at(SHARDS)),),
    ),
]

LISTS = [
    edited("list-not-json", "LADD-004", "A shard list cut short.", put(SHARDS, b'{"spec_version"'), SHARDS),
    edited("list-reformatted", "LADD-004", "A blank line too many.", swap(SHARDS, "{\n", "{\n\n"), SHARDS),
    edited("list-key-twice", "LADD-004", "A key twice.", swap(SHARDS, '"rows"', '"rows": 4,\n      "rows"'), SHARDS),
    edited("list-key-unknown", "LADD-004", "A key too many.", edit_list(lambda d: d.update(more=1)), SHARDS),
    edited(
        "list-of-other-version",
        "LADD-004",
        "Not the manifest's version.",
        edit_list(lambda d: d.update(spec_version="1.1")),
        SHARDS,
    ),
    edited("list-empty", "LADD-004", "No shard.", edit_list(lambda d: d.update(shards=[])), SHARDS),
    edited(
        "list-path-absolute",
        "LADD-004",
        "An absolute path.",
        edit_list(lambda d: d["shards"][0].update(path="/etc/passwd")),
        SHARDS,
    ),
    edited(
        "list-path-upwards",
        "LADD-004",
        "A path out of the folder.",
        edit_list(lambda d: d["shards"][0].update(path="data/../../secret")),
        SHARDS,
    ),
    edited(
        "list-nested-too-deeply",
        "LADD-080",
        "70 lists in each other.",
        put(SHARDS, f'{{"spec_version": {NESTED}}}\n'.encode()),
        SHARDS,
    ),
    edited("list-bytes-wrong", "LADD-003", "Another size.", edit_list(lambda d: d["shards"][0].update(bytes=5)), SHARD),
    edited(
        "list-sha256-wrong",
        "LADD-003",
        "Another checksum.",
        edit_list(lambda d: d["shards"][0].update(sha256="0" * 64)),
        SHARD,
    ),
    Case(
        "list-rows-wrong",
        "A row less.",
        PLAIN,
        after=edit_list(lambda d: d["shards"][0].update(rows=3)),
        problems=(("LADD-021", at(SHARDS)), ("LADD-021", at(SHARD))),
    ),
]

CARDS = [
    edited("card-without-yaml", "LADD-050", "A card of text only.", put(CARD, b"# example\n"), CARD),
    edited("card-yaml-broken", "LADD-050", "YAML that cannot be parsed.", swap(CARD, "configs:", "configs: ["), CARD),
    edited(
        "card-with-aliases",
        "LADD-050",
        "A YAML alias.",
        swap(CARD, "pretty_name: example", "pretty_name: &a example\nmore: *a"),
        CARD,
    ),
    edited(
        "card-nested-too-deeply",
        "LADD-080",
        "70 lists in each other.",
        swap(CARD, "pretty_name: example", f"pretty_name: {NESTED}"),
        CARD,
    ),
    edited("card-without-splits", "LADD-050", "Features without splits.", swap(CARD, "  splits:", "  parts:"), CARD),
    edited("card-class-renamed", "LADD-051", "A class of another name.", swap(CARD, "'1': bee", "'1': fly"), CARD),
    edited(
        "card-count-wrong",
        "LADD-051",
        "More examples than there are.",
        swap(CARD, "num_examples: 4", "num_examples: 5"),
        CARD,
    ),
    edited(
        "card-split-renamed",
        "LADD-051",
        "A split that is not train.",
        swap(CARD, "  - name: train", "  - name: test"),
        CARD,
    ),
    edited(
        "card-files-elsewhere",
        "LADD-051",
        "data_files that lead nowhere.",
        swap(CARD, "path: data/train-*", "path: train-*"),
        CARD,
    ),
    edited(
        "card-of-earlier-version",
        "LADD-051",
        "A card whose digest is of another version.",
        swap(CARD, "digest: ", "digest: a"),
        CARD,
    ),
]

CROISSANTS = [
    edited("croissant-not-json", "LADD-052", "An empty file.", put(CROISSANT, b""), CROISSANT),
    edited("croissant-of-other-things", "LADD-052", "JSON, but no Croissant.", put(CROISSANT, b"[]\n"), CROISSANT),
    edited(
        "croissant-of-earlier-version",
        "LADD-052",
        "Another checksum of the manifest than it has.",
        both(add_face, swap(CROISSANT, '"sha256": "', '"sha256": "a')),
        CROISSANT,
    ),
    edited(
        "picture-of-earlier-version",
        "LADD-052",
        "Another picture than Croissant states.",
        both(add_face, put(PICTURE, b"PNG")),
        CROISSANT,
    ),
]

CASES = [*CROISSANTS, *DOCUMENTS, *FIELDS, *LISTS, *CARDS]
