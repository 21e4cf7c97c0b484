"""How long the model in the page takes to answer, in headless Chromium, beside Python's on the same questions.

    python bench/live.py [--scenes 10]

Needs the built book. Python answers one question at a time, as the page does, on one thread; a ratio above 1 means that
the page takes longer. Pictures are new each time, so the vision tower is part of both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import torch

import lostlib
from lostlib.report import live

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "book"))
CHANGES = ("none", "sap:keys=visual,weights=gaussian")
ASK = """(async () => {
  const picture = (number) => lostLive.render(lostLive.world.scenes[number]), asked = %(asked)s;
  await lostLive.ask("%(name)s", {...asked, pixels: picture(0)});
  const pixels = picture(%(scene)d), start = performance.now();
  const found = await lostLive.ask("%(name)s", {...asked, pixels});
  return [performance.now() - start, found.tokens.length];
})()"""
QUESTION = "How many objects are there?"


def main() -> None:
    """One line a model and change: milliseconds an answer in the page and in Python, their ratio, tokens a second."""
    from chromium import Chromium

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=10, help="questions a line, 10 by default")
    count = parser.parse_args().scenes
    torch.set_num_threads(1)
    browser = Chromium()
    browser.open(ROOT / "_build" / "html" / "book" / "playground.html")
    titles = ("page ms", "Python ms", "ratio", "page tok/s", "Python tok/s")
    print(f"{'model':20} {'change':36}", *(f"{title:>12}" for title in titles))
    for name in live.SINK_DIMENSIONS:
        model = lostlib.load_model(name)
        items = [lostlib.benchmarks.Item(str(i), (image(i),), QUESTION, "", "open") for i in range(count)]
        for change in CHANGES:
            page, python, tokens = [], [], 0
            for i, item in enumerate(items):
                asked = json.dumps({"question": QUESTION, "intervention": change, "item": item.uid})
                found = browser.evaluate(ASK % {"name": name, "asked": asked, "scene": i})
                page.append(found[0])
                tokens += found[1]
                start = time.perf_counter()
                with lostlib.intervene(model, change):
                    model.reply([item])
                python.append(1000 * (time.perf_counter() - start))
            a, b = median(page), median(python)
            rates = [1000 * tokens / sum(times) for times in (page, python)]
            figures = (f"{a:.0f}", f"{b:.0f}", f"{a / b:.1f}", f"{rates[0]:.1f}", f"{rates[1]:.1f}")
            print(f"{name:20} {change:36}", *(f"{figure:>12}" for figure in figures))
    browser.close()


def image(number: int):
    """The picture of a scene of the page."""
    from lostlib.miniworld.render import render

    return render(live.scenes()[number])


if __name__ == "__main__":
    main()
