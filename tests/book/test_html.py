"""The built book: every link leads somewhere, nothing is loaded from outside, every page works in a browser offline."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe
import pandas as pd
import pytest
import yaml
from chromium import PROGRAM, Chromium

from lostlib import claims
from lostlib.report import VERDICT

ROOT = Path(__file__).resolve().parents[2]
HTML, RUN = ROOT / "_build" / "html", ROOT / "_build" / "run" / "notebooks"
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """The ids, links and loads of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.ids.update([given["id"]] if given.get("id") else [])
        self.links += [given["href"]] if tag == "a" and given.get("href") else []
        self.loads += [given[LOADS[tag]]] if given.get(LOADS.get(tag, "")) else []
        if tag == "link" and {"stylesheet", "icon", "preload"} & set((given.get("rel") or "").split()):
            self.loads.append(given["href"])


read = cache(Page)


@pytest.fixture(scope="module")
def html() -> Path:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built; `make test` builds it first")
    return HTML


def pages(html: Path) -> list[Path]:
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def faults_of(path: Path) -> Iterator[str]:
    page = read(path)
    yield from (f"id {name!r} is there {n} times" for name, n in page.ids.items() if n > 1)
    yield from (f"loads {url}" for url in page.loads if urlsplit(url).netloc)
    for url in page.links + page.loads:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            yield f"{url} leads nowhere"
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).ids:
            yield f"{url} has no such place"


def test_links_ids_and_loads(html: Path):
    faults = [f"{path.relative_to(html)}: {fault}" for path in pages(html) for fault in faults_of(path)]
    assert not faults, "\n".join(faults)


def test_the_link_checker_finds_faults(tmp_path: Path):
    page = tmp_path / "bad.html"
    page.write_text('<p id="a"><p id="a"><a href="gone.html">x</a><a href="#b">y</a><script src="https://x.y/z.js">')
    assert len(list(faults_of(page))) == 4


def test_the_index_is_a_page_of_its_own(html: Path):
    text = (html / "index.html").read_text("utf-8")
    assert "<h1" in text
    assert "http-equiv" not in text.lower().replace('http-equiv="x-ua-compatible"', "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    if PROGRAM is None:
        pytest.skip("Chromium is not installed")
    chromium = Chromium()
    yield chromium
    chromium.close()


BROKEN = "[...document.images].filter(i => !i.naturalWidth && i.getClientRects().length).map(i => i.src)"
UNSET = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).map(m => m.textContent)"
BAD_TEX = "[...document.querySelectorAll('mjx-merror')].map(m => m.textContent)"
TOO_WIDE = (
    "document.documentElement.scrollWidth > WIDTH ? ['wider than the screen'] : []"  # innerWidth would grow with it
)


PICTURES = "[...document.querySelectorAll('figure img')].map(i => [i.getAttribute('src'), i.clientWidth])"
CUT_OFF = """[...document.querySelectorAll('.pst-scrollable-table-container caption')]
    .filter(c => c.getBoundingClientRect().right > c.closest('div').getBoundingClientRect().right + 1)
    .map(c => c.textContent)"""


def letters(path: Path) -> list[float]:
    """The sizes of a picture's letters, each as a share of its width; matplotlib draws them at a hundredth."""
    text = path.read_text("utf-8")
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
    return [100 * float(scale) / width for scale in re.findall(r"scale\(([\d.]+) -", text)]


def unreadable(browser: Chromium, path: Path) -> list[str]:
    """Of an open chapter: captions that are cut off, and figures with letters of less than ten pixels."""
    found = [f"{caption} is cut off" for caption in browser.evaluate(CUT_OFF)]
    for source, shown in browser.evaluate(PICTURES):
        size = min(letters(path.parent / source), default=1) * shown
        found += [f"{source}: {size:.1f} px"] if size < 9.95 else []
    return found


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (1100, None), (390, False)])
def test_pages_work_offline_and_can_be_read(browser: Chromium, html: Path, width: int, dark: bool | None):
    """By axe-core as well where it can be had, see `test_axe_sees_faults`; in between, whether all has its place."""
    faults = []
    for path in pages(html):
        found = list(browser.open(path, width, dark=bool(dark)))
        for check in (BROKEN, UNSET, BAD_TEX, TOO_WIDE):
            found += browser.evaluate(check.replace("WIDTH", str(width)))
        if dark is not None and path.parent.name == "notebooks":
            found += unreadable(browser, path)
        if dark is not None and axe.script():
            browser.evaluate(f"{axe.script()};0")
            found += browser.evaluate(axe.RUN)
        faults += [f"{path.relative_to(html)}: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


@pytest.mark.browser
def test_the_browser_sees_faults(browser: Chromium, tmp_path: Path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><img src="gone.png" width="9">'
        '<div style="width: 999px">x</div>'
        '<span class="math">x</span><script src="https://example.org/x.js"></script><script>nothing()</script>'
    )
    faults = " ".join(browser.open(page, 390))
    assert "outside request" in faults
    assert "script error" in faults
    assert all(browser.evaluate(check.replace("WIDTH", "390")) for check in (BROKEN, UNSET, TOO_WIDE))


@pytest.mark.browser
def test_axe_sees_faults(browser: Chromium, tmp_path: Path):
    if axe.script() is None:
        pytest.skip("axe-core could not be had: no npm, or no registry")
    (tmp_path / "bad.html").write_text('<html><img src="data:,"><p style="color: #ccc">pale</p></html>')
    browser.open(tmp_path / "bad.html")
    browser.evaluate(f"{axe.script()};0")
    found = " ".join(browser.evaluate(axe.RUN))
    assert "image-alt" in found
    assert "color-contrast" in found


@pytest.mark.browser
def test_search_works_from_files(browser: Chromium, html: Path):
    faults = browser.open(html / "search.html", query="innovation")
    count = "new Promise(done => setTimeout(() => done(document.querySelectorAll('#search-results li').length), 1500))"
    assert browser.evaluate(count) >= 2
    assert not faults


@pytest.mark.browser
def test_the_list_of_tables_is_searched_and_sorted(browser: Chromium, html: Path):
    browser.open(html / "book" / "tables.html")
    rows = "[...document.querySelectorAll('.lost-sortable tbody tr')]"
    shown = f"{rows}.filter(row => !row.hidden).map(row => row.cells[0].innerText)"
    everything = browser.evaluate(shown)
    assert len(everything) == len(list((ROOT / "data" / "results").rglob("*.parquet")))
    browser.evaluate("document.querySelector('.lost-sortable th button').click()")
    assert browser.evaluate(shown) == sorted(everything)
    typed = "b => { b.value = 'residual erank'; b.dispatchEvent(new Event('input')) }"
    browser.evaluate(f"({typed})(document.querySelector('.lost-search input'))")
    assert 0 < len(browser.evaluate(shown)) < len(everything)


CELLS = "[...document.querySelectorAll('.lost-glance td:not(.lost-claim) a')]"
ROOM = "(t => [t.scrollWidth, t.parentElement.clientWidth])(document.querySelector('.lost-glance'))"
BEHIND = """(target => [target.closest('details').open, target.closest('tr').innerText])
    (document.getElementById(location.hash.slice(1)))"""


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index.html", "notebooks/scorecard.html"])
def test_the_scorecard_fits_and_its_cells_lead_to_their_estimates(browser: Chromium, html: Path, page: str):
    for width in (390, 1280):
        browser.open(html / page, width)
        needed, there = browser.evaluate(ROOM)
        assert needed <= there
    cells = browser.evaluate(f"{CELLS}.map(a => [a.title, a.href])")
    assert cells
    assert len(cells) % len(claims.CLAIMS) == 0
    told, link = next(cell for cell in cells if cell[0].startswith("C7"))
    browser.evaluate(f"setTimeout(() => {CELLS}.find(a => a.title === {json.dumps(told)}).click()); 0")
    time.sleep(2)  # it may lead to another page
    opened, row = browser.evaluate(BEHIND)
    assert opened, link
    assert row.split()[:2] == told.split(":")[0].split(", ")


def boxes() -> list[dict]:
    """What the chapters' boxes record: the claim, its status, and on which model and benchmark it rests."""
    outputs = [
        output
        for path in RUN.glob("*.ipynb")
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        for output in cell.get("outputs", ())
    ]
    return [found for output in outputs if (found := output.get("data", {}).get(VERDICT))]


def test_no_box_says_other_than_the_scorecard(html: Path):
    """Of one model on one benchmark there is one verdict, wherever it is shown."""
    table = pd.read_csv(RUN / "scorecard_files" / "tab-cells.csv")
    cells = {f"{row.claim}: {row.model} on {row.benchmark}": row.status for row in table.itertuples()}
    found = {f"{box['claim']}: {box['rests']}": box["status"] for box in boxes()}
    assert found
    both = found.keys() & cells.keys()
    assert {place: found[place] for place in both} == {place: cells[place] for place in both}


def test_every_figure_has_words_and_downloads(html: Path):
    for path in html.glob("notebooks/*.html"):
        figures = path.read_text("utf-8").split("<figure")[1:]
        assert figures
        for figure in (text.split("</figure>")[0] for text in figures):
            assert re.search(r'<img[^>]*alt="[^"]{20,}"', figure), f"{path.name}: {figure[:200]}"
            assert {"SVG", "PDF", "CSV"} == set(re.findall(r">(SVG|PDF|CSV)<", figure)), f"{path.name}: {figure[:200]}"


def test_the_buttons_name_what_is_in_the_tree(html: Path):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    place = config["repository"]["url"].removeprefix("https://")
    owner = place.removeprefix("github.com/")
    buttons = (
        rf"https://colab\.research\.google\.com/github/{owner}/blob/main/([^?#]+)",
        rf"https://mybinder\.org/v2/gh/{owner}/main\?urlpath=lab/tree/([^?#]+)",
    )
    for chapter in ROOT.glob("notebooks/*.py"):
        links = read(html / "notebooks" / f"{chapter.stem}.html").links
        for button in buttons:
            (named,) = [found[1] for link in links if (found := re.fullmatch(button, link))]
            assert (ROOT / named).is_file()
            assert Path(named).stem == chapter.stem
