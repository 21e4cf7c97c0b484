"""Questions as a checkpoint's own chat template puts them: a system line where one is wanted, and one user turn.

Some templates (Qwen2.5-VL's, the mini models') leave images where they stand between texts. LLaVA's put all images
first, and every text after them as a thing of its own: with a blank behind it, in LLaMA-3's form with the end of the
turn. Which kind a template is of is found by trying it. One of the second kind is given a single text, in which images
have names: "Which of image 1 and image 2 is older?"
"""

from __future__ import annotations

from typing import Any

from lostlib.benchmarks.items import PLACE, Item

IMAGE = {"type": "image"}
BEFORE, AFTER = "what stands before the image ", " and what stands after it"


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


class Template:
    """The template of a processor.

    Attributes: `system`, the line at the head of every prompt (None is what the template itself puts there);
    `in_place`, whether it leaves images where they stand between texts; `form`, how it puts a question about an image,
    whose place is "…".
    """

    def __init__(self, processor: Any, system: str | None = None):
        self.processor, self.system = processor, system
        if system:
            self._check_system(system)
        head, alone = self._turn(_text(AFTER)).partition(AFTER)[0], self._turn(IMAGE, _text(AFTER))
        among = self._turn(_text(BEFORE), IMAGE, _text(AFTER))
        self.in_place = alone.startswith(head) and among == head + BEFORE + alone.removeprefix(head)
        self.form = self._turn(IMAGE, _text("…"))

    def __call__(self, item: Item) -> tuple[str, list[Any]]:
        """The prompt up to where the model goes on, and the item's images in the order in which it shows them."""
        text, images = self._asked(item)
        return f"{text} {item.begun}" if item.begun else text, images

    def _asked(self, item: Item) -> tuple[str, list[Any]]:
        """The same up to where the answer begins."""
        if not item.chat:
            return item.prompt, []
        texts, numbers = item.prompt.split(PLACE), item.numbers or range(1, len(item.images) + 1)
        if len(texts) != len(item.images) + 1:
            return self._turn(*[IMAGE] * len(item.images), _text(item.prompt)), list(item.images)
        if self.in_place:
            parts = [part for text in texts for part in (IMAGE, _text(text)) if part.get("text") != ""]
            return self._turn(*parts[1:]), list(item.images)
        shown = dict(sorted(zip(numbers, range(len(item.images)), strict=True)))  # each once, by its number
        named = _named(texts, list(numbers), everywhere=item.numbers is not None)
        return self._turn(*[IMAGE] * len(shown), _text(named)), [item.images[i] for i in shown.values()]

    def _turn(self, *parts: dict[str, str]) -> str:
        """A user's turn after the system line."""
        head = [{"role": "system", "content": [_text(self.system)]}] if self.system else []
        return self._rendered(*head, {"role": "user", "content": [*parts]})

    def _rendered(self, *messages: dict[str, Any]) -> str:
        return self.processor.apply_chat_template([*messages], add_generation_prompt=True)

    def _check_system(self, system: str) -> None:
        """Refuse a system line that the template does not say, says twice, or takes for the model's own words."""
        try:
            said, own = (
                self._rendered({"role": role, "content": [_text(system)]}, {"role": "user", "content": [_text(AFTER)]})
                for role in ("system", "assistant")
            )
        except Exception as error:  # of Jinja: many templates refuse roles
            raise ValueError(f"the chat template takes no system line ({error}); {system!r} was given") from error
        if said.count(system) != 1 or said == own:
            raise ValueError(f"the chat template has no place for a system line; {system!r} was given")


def _named(texts: list[str], numbers: list[int], everywhere: bool) -> str:
    """The text with names for the images; those that only stand before or after it need one only if it has others."""
    while not everywhere and numbers and not texts[0].strip():
        texts, numbers = texts[1:], numbers[1:]
    while not everywhere and numbers and not texts[-1].strip():
        texts, numbers = texts[:-1], numbers[:-1]
    text = texts[0]
    for number, piece in zip(numbers, texts[1:], strict=True):
        text += " " * text[-1:].isalnum() + f"image {number}" + " " * piece[:1].isalnum() + piece
    return text if everywhere else text.strip()
