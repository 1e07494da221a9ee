"""Other Pythons than the running one, for tests that compare histories between versions.

Looked for beside this repository's own environment (``.venv-3.13``, which ``make another
PYTHON=python3.13`` makes) and on the path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"
VERSIONS = ("python3.11", "python3.13")


def others(needs: str) -> list[str]:
    """Return the paths of other Pythons, one of each version, that can do what is needed."""
    found = []
    for name in VERSIONS:
        own = ROOT / f".venv-{name.removeprefix('python')}/bin/python"
        for path in (str(own), shutil.which(name) or name):
            if name == RUNNING:
                continue
            probe = (path, "-c", needs)
            try:
                fails = subprocess.run(probe, cwd=ROOT, capture_output=True, check=False).returncode
            except FileNotFoundError:
                continue
            if not fails:
                found.append(path)
                break
    return found
