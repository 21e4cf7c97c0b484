"""Where images stand in a conversation: at their places in the prompt, or before it."""

from __future__ import annotations

import pytest

from lostlib.benchmarks import Item
from lostlib.models.model import _messages

IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("prompt", "images", "content"),
    [
        ("What?", 1, [IMAGE, text("What?")]),
        ("What?", 0, [text("What?")]),
        ("What?", 2, [IMAGE, IMAGE, text("What?")]),
        ("See <image> and <image>: what?", 2, [text("See "), IMAGE, text(" and "), IMAGE, text(": what?")]),
        ("<image>What?<image>", 2, [IMAGE, text("What?"), IMAGE]),
        ("One <image>, two shown", 2, [IMAGE, IMAGE, text("One <image>, two shown")]),
    ],
)
def test_images_at_their_places(prompt: str, images: int, content: list) -> None:
    item = Item(uid="x", images=(object(),) * images, prompt=prompt, answer="", kind="open")
    assert _messages(item) == [{"role": "user", "content": content}]
