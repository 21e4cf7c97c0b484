"""What a benchmark asks: one `Item` a question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lostlib.benchmarks import pictures
from lostlib.miniworld.scenes import TOKENS

PLACE = "<image>"  # in a prompt: here stands the next image


@dataclass(frozen=True)
class Item:
    """One question about zero or more images."""

    uid: str  #: unique within the benchmark; random draws are keyed by it
    #: in the order they are shown, as PIL pictures, paths, bytes or rows of `datasets`; whoever looks at one gets it
    #: upright and in RGB, see `lostlib.benchmarks.pictures`
    images: Sequence[Any]
    #: the text the model is asked, options and instructions included; where it holds `PLACE` once for every image, the
    #: images stand there, and otherwise before the text
    prompt: str
    answer: str  #: the expected answer, such as yes, no, a letter or a number as text
    kind: str  #: yesno, mcq, number, list or open
    options: Mapping[str, str] | None = None  #: from letter to text, for mcq
    cluster: str = ""  #: items of one cluster share an image or a base question; intervals resample clusters
    #: visual tokens that decide the answer, numbered in raster order and on from image to image; None where they are
    #: not known
    relevant: tuple[int, ...] | None = None
    #: visual tokens that show any object, where they are known; the others are background
    objects: tuple[int, ...] | None = None
    #: visual tokens an image has where `relevant` and `objects` are numbered; as many as the model has if None
    patches: int | None = None
    #: what scores are broken down by; an item with several values of one name counts in each
    meta: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()  #: other answers that are right as well
    #: is the prompt a turn in a conversation; if not, it is sent as it is, without the model's chat template
    chat: bool = True
    #: why the row behind it is not a question, if so; such an item is not asked and never right
    fault: str | None = None
    #: what the prompt calls the images, 1 for "image 1"; None where it has no names for them
    numbers: tuple[int, ...] | None = None
    begun: str = ""  #: the words with which the answer begins, given to the model; it goes on from there

    def __post_init__(self) -> None:
        images = Pictures(self.images)
        object.__setattr__(self, "images", images)
        missing = [i for i, stored in enumerate(images.stored) if stored is None]
        if missing and self.fault is None:
            fault = f"picture {missing[0]} of {len(images)} is missing from the data set"
            object.__setattr__(self, "fault", fault)

    def located(self, tokens: int) -> bool:
        """Are `relevant` and `objects` known of these visual tokens? Not of a model that cuts pictures otherwise."""
        fits = self.patches is None or tokens == self.patches * len(self.images)
        return fits and self.relevant is not None

    @property
    def guesses(self) -> int:
        """How many answers one can guess from, two for yes or no, and 0 where there is no telling."""
        return len(self.options) if self.options else 2 * (self.kind == "yesno")


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item's `relevant`, `objects` and `patches`, which only rows of the mini world have."""
    if row.get("relevant") is None:
        return {}
    return {"relevant": tuple(row["relevant"]), "objects": tuple(row["objects"]), "patches": TOKENS}


def several(items: Any) -> Sequence[Item]:
    """Items as a sequence; one alone is a sequence of one, and what is no item is an error."""
    found = [items] if isinstance(items, Item) else list(items) if isinstance(items, Iterable) else [items]
    if wrong := [one for one in found if not isinstance(one, Item)]:
        raise TypeError(f"expected items, such as load_benchmark('mini-pope').items, got {str(wrong[0])[:80]!r}")
    return found


class Pictures(Sequence[Any]):
    """Images that are opened whenever they are looked at, so that a benchmark does not fill the memory."""

    def __init__(self, stored: Iterable[Any]) -> None:
        self.stored: tuple[Any, ...] = stored.stored if isinstance(stored, Pictures) else tuple(stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Pictures(self.stored[index])
        stored = self.stored[index]
        return stored.open() if isinstance(stored, pictures.Kept) else pictures.read(stored)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pictures) and self.stored == other.stored

    def __repr__(self) -> str:
        return f"Pictures({len(self)})"
