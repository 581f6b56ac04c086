"""What a user installs: the wheel holds the packages and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    build = f"""from hatchling.builders.wheel import WheelBuilder
print(*WheelBuilder('.').build(directory={str(tmp_path)!r}))"""
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    packages = (ROOT / "ladd_data", ROOT / "converters" / "ladd_converters", ROOT / "examples" / "ladd_examples")
    expected = {
        str(path.relative_to(package.parent))
        for package in packages
        for path in package.rglob("*")
        if path.suffix in (".py", ".txt", ".css", ".js") or path.name == "py.typed"
    }
    assert names == expected
