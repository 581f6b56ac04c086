"""Running other people's libraries in a process that cannot import ours, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BLOCK = "import sys; sys.modules['ladd_data'] = None\n"


def run_plainly(code: str, cache: Path) -> str:
    """Run Python code without ladd_data and return its stdout."""
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
