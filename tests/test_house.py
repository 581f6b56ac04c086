"""The house stands: imports point down, importing is light, files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ladd_data

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    [*(ROOT / "ladd_data").rglob("*.py"), *(ROOT / "converters").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
)

FLOORS = [
    {"errors"},
    {"types"},
    {"files", "new_files", "recipe", "processes", "joined_files"},
    {"manifest_labels", "png", "jpeg", "team"},
    {"manifest", "picture_heads"},
    {"manifest_projector"},
    {"manifest_json"},
    {"schema", "presets", "recipes", "pixels", "encodings", "views", "source_files"},
    {"digests", "shards", "models"},
    {"card"},
    {"writer", "label_writer"},
    {"loaders", "remote"},
    {"ledger", "publishing", "sources", "label_checks"},
    {"validation"},
    {"dataset", "pictures"},
    {"converter"},
    {"convert", "labeling", "reencode", "export", "deploy", "report", "hub"},
    {"convert_run"},
    {"testing", "evaluation", "projector"},
    {"rates"},
    {"cli"},
    {"__init__", "__main__"},
]
"""From the ground up. A module imports its own room and lower floors; verbs do not import each other."""

ROOMS_WITHIN_A_FLOOR = {("shards", "digests")}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere, except for type checking only."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ladd_data").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_point_down(path: Path) -> None:
    parts = path.relative_to(ROOT / "ladd_data").with_suffix("").parts
    room = parts[0]
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    assert room in floor, f"{room} has no floor yet: add it to FLOORS"
    for module in imports_of(path):
        assert not module.startswith(("ladd_converters", "ladd_examples")), f"{path} imports {module}"
        if module.startswith("ladd_data.") and room_of(module) != room and room not in ("__init__", "__main__"):
            below = floor[room_of(module)] < floor[room] or (room, room_of(module)) in ROOMS_WITHIN_A_FLOOR
            assert below, f"{path.relative_to(ROOT)} imports {module}, which is not below it"


@pytest.mark.parametrize("path", sorted((ROOT / "converters").rglob("*.py")), ids=lambda path: path.name)
def test_converters_come_in_by_the_front_door(path: Path) -> None:
    inner = {module for module in imports_of(path) if module.startswith("ladd_data.")}

    assert inner == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)

    assert len(text.splitlines()) <= 400
    assert path.name != "utils.py"
    assert ast.get_docstring(tree), f"{path} has no first line that says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            doc = node.body[0] if ast.get_docstring(node) else None
            lines = (node.end_lineno or 0) - (doc.end_lineno if doc and doc.end_lineno else node.body[0].lineno - 1)
            assert lines <= 45, f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_importing_the_front_door_is_light() -> None:
    heavy = "{'torch', 'torchvision', 'datasets', 'pyarrow', 'pydantic', 'numpy', 'huggingface_hub'}"

    assert run(f"import sys, ladd_data; print({heavy} & set(sys.modules))").strip() == "set()"


def test_validating_needs_neither_torch_nor_datasets(labelled: Path) -> None:
    code = f"""import sys, ladd_data
report = ladd_data.validate({str(labelled)!r})
print(report.valid, {{'torch', 'datasets'}} & set(sys.modules))"""

    assert run(code).strip() == "True set()"


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, ladd_data.cli; print({'torch', 'datasets', 'pyarrow'} & set(sys.modules))"

    assert run(code).strip() == "set()"


FRONT_DOOR = """
    Answers Ask Batch Boxes Classes Coding ConvertError Converter Dataset DatasetError Description Distilled
    EvaluationPlan Full GivenLabels LabelError LaddError Manifest Mix Normalization Opaque Patience Pictures Preset
    Problem RECIPES Recipe Record SPEC_VERSION SoftValues UsageError ViewLabels __version__ boxes check_labels collate
    evaluate grid imagenet_indices load load_labeler load_online losses open_pictures pull push store_labels stream
    validate
"""


def test_the_front_door_has_exactly_these_names() -> None:
    assert sorted(ladd_data.__all__) == sorted(FRONT_DOOR.split())
    for name in ladd_data.__all__:
        assert getattr(ladd_data, name) is not None
    with pytest.raises(AttributeError, match="surprise"):
        _ = ladd_data.surprise


def test_installed_converters_are_the_declared_ones_and_every_file_has_one() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["ladd_data.converters"]
    installed = {point.name: point.value for point in entry_points(group="ladd_data.converters")}

    assert installed == declared, "entry points are stale: run `pip install -e .` again"
    files = {path.stem for path in (ROOT / "converters" / "ladd_converters").glob("*.py")}
    shared = {
        "__init__",
        "class_folders",
        "class_labels",
        "dc_results",
        "fkd_batches",
        "fkd_images",
        "fkd_order",
        "fkd_views",
        "hub_files",
        "kept_classes",
        "originals",
        "padded_pictures",
        "pairs",
        "pickled_arrays",
        "run_tensors",
        "temporary",
        "torch_files",
    }
    shared |= {"trajectory_files", "trajectory_runs", "whitening"}
    assert files - {value.split(":")[0].split(".")[1] for value in declared.values()} == shared
