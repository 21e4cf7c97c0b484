"""A model in one text: what is printed is what is parsed, and mistakes name what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lostlib import paths, tables
from lostlib.checkpoints import CARDS, ModelChoice

QWEN = "Qwen/Qwen2.5-VL-3B-Instruct"


@pytest.mark.parametrize("name", CARDS)
def test_a_plain_name_stays_plain(name: str) -> None:
    choice = ModelChoice.parse(name)
    assert str(choice) == choice.name == name


@pytest.mark.parametrize(
    ("text", "more", "canonical"),
    [
        (f"{QWEN}@refs/pr/3", {}, f"{QWEN}@refs/pr/3"),
        (QWEN, {"revision": "v1"}, f"{QWEN}@v1"),
        (f"{QWEN}:revision=v1", {}, f"{QWEN}@v1"),
        (f"{QWEN}@v1:max_pixels = 5000 , min_pixels=4000", {}, f"{QWEN}@v1:min_pixels=4000,max_pixels=5000"),
        (f"{QWEN}:max_pixels=5000", {"max_pixels": 5000, "dtype": "auto"}, f"{QWEN}:max_pixels=5000"),
        (f"{QWEN}:dtype=bfloat16", {}, QWEN),
        (f"{QWEN}:dtype=float32", {}, f"{QWEN}:dtype=float32"),
        ("mini-llava-1.5", {"dtype": "float32"}, "mini-llava-1.5"),
        ("mini-llava-1.5:backend=sdpa,dtype=float16", {}, "mini-llava-1.5:dtype=float16,backend=sdpa"),
        ("mini-llava-1.5:quantization=4bit", {}, "mini-llava-1.5:quantization=4bit"),
        ("someone/else:quantization=8bit", {"system": "qwen"}, "someone/else:system=qwen,quantization=8bit"),
        ("someone/else", {"dtype": "bfloat16", "max_pixels": 784}, "someone/else:dtype=bfloat16,max_pixels=784"),
    ],
)
def test_the_canonical_form(text: str, more: dict, canonical: str) -> None:
    choice = ModelChoice.parse(text, **more)
    assert str(choice) == canonical
    assert str(ModelChoice.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (f"{QWEN}:max_pixel=5000", {}, "did you mean 'max_pixels'"),
        (f"{QWEN}:max_pixels=many", {}, "whole number of pixels.*'many'"),
        (QWEN, {"max_pixels": -1}, "whole number of pixels.*-1"),
        (QWEN, {"max_pixels": 0}, "whole number of pixels"),
        (QWEN, {"min_pixels": 2e5}, "whole number of pixels"),
        (QWEN, {"min_pixels": 5000, "max_pixels": 4000}, "min_pixels 5000 is more than max_pixels 4000"),
        (f"{QWEN}:max_pixels=5000", {"max_pixels": 4000}, "max_pixels is given twice, as 5000 and 4000"),
        (f"{QWEN}@v1", {"revision": "v2"}, "revision is given twice, as v1 and v2"),
        (f"{QWEN}@", {}, "names no revision"),
        (f"{QWEN}:dtype=bfloat6", {}, "did you mean 'bfloat16'"),
        ("mini-llava-1.5:backend=spda", {}, "eager, sdpa; did you mean 'sdpa'"),
        ("llava-hf/llava-1.5-7b-hf", {"max_pixels": 5000}, "of the family llava.*are for qwen2_5_vl"),
        (f"{QWEN}:quantization=4bits", {}, "did you mean '4bit'"),
        (f"{QWEN}-AWQ:quantization=4bit", {}, "are quantized already; 4bit was given"),
        ("mini-llava-1.5@main", {}, "is a folder here, which has no revisions"),
    ],
)
def test_mistakes_name_what_there_is(text: str, more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelChoice.parse(text, **more)


def test_folders_of_any_name(tmp_path: Path) -> None:
    for name in ("at@home", "with:colon=1", "plain"):
        (tmp_path / name).mkdir()
        choice = ModelChoice.parse(tmp_path / name)
        assert (choice.name, choice.folder) == (str(tmp_path / name), tmp_path / name)
        half = ModelChoice.parse(f"{tmp_path / name}:dtype=float16")
        assert (half.folder, half.dtype) == (tmp_path / name, "float16")


def test_a_folder_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models" / "with:colon=1").mkdir(parents=True)
    for name in ("models", "models/with:colon=1"):
        for more in ("", ":dtype=float16"):
            assert str(ModelChoice.parse(f"~/{name}{more}")) == f"{tmp_path}/{name}{more}"


def test_weights_without_a_network() -> None:
    commit = "0a" * 20
    assert ModelChoice.parse("mini-llava-1.5").weights == paths.weights_hash(paths.MODELS / "mini-llava-1.5")
    assert ModelChoice.parse(f"{QWEN}@{commit}").weights == commit
    assert ModelChoice.parse("nobody/has-this").weights == "unknown"
    assert ModelChoice.parse("a/b/c").weights == "unknown"


def test_tables_of_differently_loaded_models_lie_apart() -> None:
    texts = [QWEN, f"{QWEN}@v1", f"{QWEN}:max_pixels=5000", f"{QWEN}@v1:max_pixels=5000", f"{QWEN}:dtype=float32"]
    found = {tables.Key("answers", text, "w", "pope", "1").path for text in texts}
    assert len(found) == len(texts)
    assert not any(":" in str(path) or "," in str(path) for path in found)
