"""Pictures of every mode and from every source: the same values, upright, on white."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lostlib.benchmarks import Item, pictures
from lostlib.benchmarks.hub import Stored

GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)  # every value once


def png(image: Image.Image, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **more)
    return buffer.getvalue()


def values(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "RGB"
    return np.asarray(picture)


# ---- modes ----------------------------------------------------------------------------------------------------------

WIDE = GREY.astype("uint16") * 257  # the same in 16 bits
GREYS = {
    "L": Image.fromarray(GREY),
    "I;16": Image.fromarray(WIDE),
    "I;16B": Image.frombytes("I;16B", (32, 8), WIDE.astype(">u2").tobytes()),
    "I;16 from a file": Image.open(io.BytesIO(png(Image.fromarray(WIDE)))),
    "I of 16 bits": Image.fromarray(WIDE.astype("int32")),
    "I of 8 bits": Image.fromarray(GREY.astype("int32")),
    "I of 24 bits": Image.fromarray(GREY.astype("int32") * 0x10101),
    "F of shares": Image.fromarray(GREY.astype("float32") / 255),
    "F of 8 bits": Image.fromarray(GREY.astype("float32")),
    "F of 16 bits": Image.fromarray(WIDE.astype("float32")),
    "LA": Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (32, 8), 255)]),
    "P": Image.fromarray(GREY).convert("P"),
}


@pytest.mark.parametrize("mode", GREYS)
def test_grey_values_are_kept_whatever_holds_them(mode: str) -> None:
    assert (values(pictures.read(GREYS[mode])) == GREY[..., None]).all()


def test_dark_and_light_16_bits_stay_dark_and_light() -> None:
    dark, light = (Image.fromarray(np.full((2, 2), value, "uint16")) for value in (300, 65000))
    assert values(pictures.read(dark)).max() == 1
    assert values(pictures.read(light)).min() == 253


def test_values_outside_any_range() -> None:
    assert values(pictures.read(Image.fromarray(np.array([[-3.0, 0.5, 1.0]], "float32"))))[0, :, 0].tolist() == [
        0,
        128,
        255,
    ]
    with pytest.raises(ValueError, match="mode F has values that are not finite"):
        pictures.read(Image.fromarray(np.array([[np.nan, 1.0]], "float32")))


def paletted(transparency: Any) -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    return Image.open(io.BytesIO(png(image, transparency=transparency)))


def test_what_is_transparent_is_white_and_what_is_half_transparent_half() -> None:
    alphas = Image.frombytes("L", (3, 1), bytes([0, 255, 51]))
    hidden = Image.new("RGB", (3, 1), (100, 0, 200))
    rgba = hidden.copy()
    rgba.putalpha(alphas)
    assert values(pictures.read(rgba))[0].tolist() == [[255, 255, 255], [100, 0, 200], [224, 204, 244]]
    grey = Image.merge("LA", [Image.new("L", (3, 1), 100), alphas])
    assert values(pictures.read(grey))[0, :, 0].tolist() == [255, 100, 224]
    assert values(pictures.read(paletted(1)))[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    assert values(pictures.read(paletted(bytes([255, 255, 0]))))[0].tolist() == [
        [10, 20, 30], [40, 50, 60], [255, 255, 255],
    ]  # fmt: skip
    keyed = Image.open(io.BytesIO(png(hidden, transparency=(100, 0, 200))))
    assert (values(pictures.read(keyed)) == 255).all()


# ---- orientations and sources ---------------------------------------------------------------------------------------

UPRIGHT = {  # of the pixels as they are stored, after the names of the sides where row 0 and column 0 are
    1: lambda s: s,  # top, left
    2: lambda s: s[:, ::-1],  # top, right
    3: lambda s: s[::-1, ::-1],  # bottom, right
    4: lambda s: s[::-1],  # bottom, left
    5: lambda s: s.swapaxes(0, 1),  # left, top
    6: lambda s: s.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda s: s.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda s: s.swapaxes(0, 1)[::-1],  # left, bottom
}
SOURCES: dict[str, Callable[[bytes, Path], Any]] = {
    "bytes": lambda data, file: data,
    "path": lambda data, file: file,
    "path from home": lambda data, file: f"~/{file.name}",
    "picture": lambda data, file: Image.open(io.BytesIO(data)),
    "row": lambda data, file: {"bytes": data, "path": None},
    "row with a path": lambda data, file: {"bytes": None, "path": str(file)},
    "parquet": lambda data, file: Stored(pa.chunked_array([[{"bytes": data, "path": "x.png"}]]), 0),
    "table of text": lambda data, file: Stored(pa.chunked_array([[base64.b64encode(data).decode()]]), 0),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_picture_from_every_source(
    source: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stored = np.random.default_rng(orientation).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, file = png(Image.fromarray(stored), exif=exif), tmp_path / "x.png"
    file.write_bytes(data)
    item = Item("x", (SOURCES[source](data, file),), "What?", "", "open")
    for _ in range(2):  # looked at twice
        assert (values(item.images[0]) == UPRIGHT[orientation](stored)).all()


def test_what_is_looked_at_may_be_changed() -> None:
    item = Item("x", (Image.new("RGB", (9, 9)),), "What?", "", "open")
    item.images[0].thumbnail((3, 3))
    assert item.images[0].size == (9, 9)


def test_what_is_no_picture() -> None:
    with pytest.raises(TypeError, match="expected a picture of PIL, a path, bytes or a row of datasets, got int"):
        pictures.read(3)
