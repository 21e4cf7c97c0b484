"""Everything else is in pyproject.toml: a wheel also holds `data/` (beside the package in a checkout) and templates."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lostlib*"]), "lostlib.data"],
    package_dir={"lostlib.data": "data"},
    package_data={"lostlib.data": ["**/*"], "lostlib.minimodels": ["*.md"], "lostlib.teach": ["*.toml"]},
)
