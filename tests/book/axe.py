"""axe-core, the accessibility checker: from the npm cache or the registry, at one pinned version."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

VERSION = "4.14.1"
FOLDER = Path(__file__).resolve().parents[2] / "_build" / "cache" / "axe"
SCRIPT = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
RUN = """axe.run({preload: false, resultTypes: ['violations']}).then(found => found.violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.length} x ${v.nodes[0].html.slice(0, 160)}`))"""


@cache
def script() -> str | None:
    """The script's text, or None where it cannot be had."""
    if not SCRIPT.exists() and shutil.which("npm"):
        command = ["npm", "install", "--no-save", "--prefix", str(FOLDER), f"axe-core@{VERSION}"]
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, capture_output=True, check=False, timeout=120)
    return SCRIPT.read_text("utf-8") if SCRIPT.exists() else None
