"""Where shipped models and tables are: beside the package in a checkout, inside it when installed from a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
DATA = PACKAGE / "data" if (PACKAGE / "data").exists() else ROOT / "data"
MODELS = DATA / "models"
RESULTS = DATA / "results"
PUBLISHED = DATA / "paper"
