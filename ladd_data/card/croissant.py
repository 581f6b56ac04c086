"""croissant.json: the dataset in MLCommons Croissant 1.1 (JSON-LD), which search engines and loaders read.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. Paths are relative to the file. No date
stands in it, so that equal datasets have equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ladd_data.card.columns import COLUMNS
from ladd_data.card.picture import PICTURE_PATH
from ladd_data.card.words import count_of, say_ipc, say_summary
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.shards.editions import find_container
from ladd_data.shards.folder import Shard
from ladd_data.shards.layout import layout_of
from ladd_data.types import Edition

CROISSANT_PATH = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_FORMATS: dict[Edition, str] = {
    "parquet": "application/x-parquet",
    "webdataset": "application/x-tar",
    "arrow": "application/vnd.apache.arrow.file",
}
_BESIDE = {
    MANIFEST_PATH: ("The manifest: all that is known of the dataset.", "application/json"),
    PICTURE_PATH: ("A picture of some records.", "image/png"),
}
"""What a file beside the shards is, and its type."""
_TYPES = {
    "float16": "cr:Float16",
    "float32": "cr:Float32",
    "uint8": "cr:UInt8",
    "uint16": "cr:UInt16",
    "uint32": "cr:UInt32",
    "bool": "sc:Boolean",
    "bytes": "sc:Text",
}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe_croissant(
    manifest: Manifest, edition: Edition, shards: Sequence[Shard], sums: Mapping[str, str], repo: str | None = None
) -> dict[str, Any]:
    """Return croissant.json as a dictionary.

    Args:
        manifest: what the dataset says of itself.
        edition: what the shards are.
        shards: as meta/shards.json lists them.
        sums: SHA-256 of the bytes of meta/ladd.json and, where there is one, samples.png, by path.
        repo: "user/name" on the Hub, where it has one.
    """
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": manifest.name,
        "conformsTo": CONFORMS_TO,
        "description": say_summary(manifest, say_ipc(manifest)),
        "keywords": ["dataset distillation", "image classification", *(["soft labels"] if manifest.labels else [])],
        "identifier": f"sha256:{manifest.digest}",
        "isLiveDataset": False,
    }
    if manifest.license:
        document["license"] = manifest.license
    if manifest.citation:
        document["citeAs"] = manifest.citation
    if repo is not None:
        document["url"] = f"https://huggingface.co/datasets/{repo}"
    document["distribution"] = [
        *(_file(path, sha256, *_BESIDE[path]) for path, sha256 in sums.items()),
        *(_shard(shard, edition) for shard in shards),
        *_sets(manifest, edition, shards),
    ]
    document["recordSet"] = [_class_set(manifest), *_record_sets(manifest, edition)]
    return document


def listed_checksums(document: Any) -> dict[str, str]:
    """Return the SHA-256 that a Croissant document states of each file, by path.

    Raises:
        ValueError: it is no Croissant document.
    """
    try:
        files = [item for item in document["distribution"] if "FileObject" in item["@type"]]
        return {str(item["contentUrl"]): str(item["sha256"]) for item in files}
    except (KeyError, TypeError) as error:
        raise ValueError("a document without a distribution of files with contentUrl and sha256") from error


def _shard(shard: Shard, edition: Edition) -> dict[str, Any]:
    file = _file(shard.path, shard.sha256, f"{count_of(shard.rows, 'record')}.", _FORMATS[edition])
    return file | {"contentSize": f"{shard.bytes} B"}


def _file(path: str, sha256: str, description: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "description": description,
        "contentUrl": path,
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _sets(manifest: Manifest, edition: Edition, shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Return what the fields are read from: the shards, or of tars one set for each kind of member."""
    if edition != "webdataset":
        suffix = find_container(edition).SUFFIX
        return [_set("shards", "All records.", _FORMATS[edition], f"data/*{suffix}")]
    layout = layout_of(manifest)
    inside = [{"@id": shard.path} for shard in shards]
    kinds = {layout.suffix: "image/png" if layout.png else "image/jpeg", "cls": "text/plain"}
    kinds |= {f"{name}.npy": "application/x-npy" for name in layout.dense}
    return [
        {**_set(suffix, f"A file {{id}}.{suffix} of each record.", kind, f"*.{suffix}"), "containedIn": inside}
        for suffix, kind in kinds.items()
    ]


def _set(name: str, description: str, kind: str, pattern: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "encodingFormat": kind,
        "includes": pattern,
    }


def _class_set(manifest: Manifest) -> dict[str, Any]:
    """Return the list of classes, with its content."""
    rows = [{"classes/label": number, "classes/name": name} for number, name in enumerate(manifest.classes.names)]
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "The classes, in label order.",
        "key": {"@id": "classes/label"},
        "field": [
            _field("classes/label", "The number.", "sc:Integer"),
            _field("classes/name", "The name.", "sc:Text"),
        ],
        "data": rows,
    }


def _record_sets(manifest: Manifest, edition: Edition) -> list[dict[str, Any]]:
    layout = layout_of(manifest)
    channels, height, width = layout.shape
    said = f"The image, {width}x{height}, {'RGB' if channels == 3 else 'greyscale'}."
    if edition == "webdataset":
        return _member_sets(manifest, said)
    image = _field("records/image", said, "sc:ImageObject", _column("image", {"jsonPath": "bytes"}))
    if edition == "arrow":
        image = _field("records/image", said, "cr:UInt8", _column("image"), layout.shape)
    fields = [
        image,
        {
            **_field(
                "records/label", "The hard class: a number of the set of classes.", "sc:Integer", _column("label")
            ),
            "dataType": ["sc:Integer", "cr:Label"],
            "references": {"field": {"@id": "classes/label"}},
        },
        _field("records/id", "The record's name.", "sc:Text", _column("id")),
    ]
    for name, (shape, dtype) in layout.dense.items():
        shape = () if dtype == "bytes" else shape
        fields.append(_field(f"records/{name}", _say_column(name), _TYPES[dtype], _column(name), shape))
    return [_record_set("records", "One distilled image each, with its labels.", fields)]


def _member_sets(manifest: Manifest, said: str) -> list[dict[str, Any]]:
    """Return the record sets of tars, one for each kind of member, joined by the record's name."""
    layout = layout_of(manifest)
    sets = []
    kinds = {layout.suffix: (said, "sc:ImageObject"), "cls": ("The hard class, a number in ASCII.", "sc:Text")}
    kinds |= {f"{name}.npy": (f"{_say_column(name)} A NumPy file.", "sc:Text") for name in layout.dense}
    for suffix, (text, kind) in kinds.items():
        source = {"fileSet": {"@id": suffix}}
        name = {**source, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"([^/.]+)\..*"}}
        fields = [
            _field(f"records-{suffix}/id", "The record's name.", "sc:Text", name),
            _field(f"records-{suffix}/{suffix}", text, kind, {**source, "extract": {"fileProperty": "content"}}),
        ]
        sets.append(_record_set(f"records-{suffix}", f"The {suffix} of each record, by its name.", fields))
    return sets


def _record_set(name: str, description: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description}
    return {**head, "key": {"@id": next(f["@id"] for f in fields if f["@id"].endswith("/id"))}, "field": fields}


def _field(
    name: str, description: str, kind: str, source: Mapping[str, Any] | None = None, shape: tuple[int, ...] = ()
) -> dict[str, Any]:
    field: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name, "description": description}
    field["dataType"] = kind
    if shape:
        field |= {"isArray": True, "arrayShape": ",".join(map(str, shape))}
    return field | ({"source": dict(source)} if source is not None else {})


def _column(name: str, transform: Mapping[str, str] | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": name}}
    return source | ({"transform": dict(transform)} if transform else {})


def _say_column(name: str) -> str:
    return f"{COLUMNS.get(name, name)[:1].upper()}{COLUMNS.get(name, name)[1:]}."
