"""One model's verdicts, from whatever tables one asks for: what `choices` makes differently. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lostlib import claims
from lostlib.benchmarks import Benchmark, Choice, load_benchmark
from lostlib.checkpoints import ModelChoice
from lostlib.claims import scorecard
from lostlib.claims.verdicts import Verdict
from lostlib.tables import NotThere

Ask = Callable[..., pd.DataFrame]
Verdicts = dict[str, Verdict]  # by column: the claim, and of several benchmarks the name, "C7 mini-pope"
FEW, MANY, HALF, READ, CUT = 50, 200, 100, 300, 500  # items: metrics again, in the chapters; float16; readings; sinks
SINGLE = "mini-realworldqa"  # asks one question a picture
TYPES, BACKENDS = ("float32", "bfloat16", "float16"), ("eager", "sdpa")
PROFILES = {"as lmms-eval": "lmms", "as VLMEvalKit": "vlmevalkit"}
LETTER = "to the letter"
HARNESSES = {
    "official": ("pope_official", "mmmu_official"),
    "lmms-eval": ("lmms_pope", "lmms_mcq"),
    "VLMEvalKit": ("vk_yorn", "vk_can_infer"),
}
UNREAD_OUT = "unread left out"
READERS = (LETTER, *HARNESSES, UNREAD_OUT)


class Study:
    """One model's verdicts, and the tables that they rest on.

    Parameters
    ----------
    ask : callable
        Gives a table's rows for an experiment and keywords, as `lostlib.results.Reader`; `NotThere` says that there
        is none, and the choices that need it are left out.
    held : callable
        The same for what takes long to measure and is only asked for where it is shipped: several draws, other
        readings.
    model, benchmark
        As for `lostlib.results.obtain`; `benchmark` is that of the residual metrics.
    names : sequence of str
        Those that are answered; the first mini-mathvista among them is asked for C9.
    n, seed, seeds : int
        Items, the first seed and the number of seeds of what is random.
    """

    def __init__(
        self, ask: Ask, held: Ask, model: str, benchmark: str, names: Sequence[str], n: int, seed: int = 0,
        seeds: int = claims.SEEDS,
    ) -> None:  # fmt: skip
        self.ask, self.held, self.model, self.benchmark, self.names = ask, held, model, benchmark, list(names)
        self.n, self.seed, self.seeds = n, seed, seeds
        self.few, self.many, self.half, self.cut = (min(n, most) for most in (FEW, MANY, HALF, CUT))
        self.own = ModelChoice.parse(model)
        self.asked_of: dict[str, Benchmark] = {name: load_benchmark(name, n=n) for name in self.names}
        self.sums: str | None = next((name for name in self.names if Choice.parse(name).rules.sums), None)
        self.sinks_in = f"{model}-sinks" if model == "mini-llava-1.5" else model  # it has none of its own
        self._kept: dict[str, pd.DataFrame] = {}

    def _get(self, ask: Ask, experiment: str, **asked: object) -> pd.DataFrame:
        name = f"{experiment} {sorted(asked.items())}"
        if name not in self._kept:
            self._kept[name] = ask(experiment, **asked)
        return self._kept[name]

    def stream(self, of: str = "", on: str = "", n: int = 0, **own: object) -> pd.DataFrame:
        """Residual metrics."""
        return self._get(self.ask, "residual", model=of or self.model, benchmark=on or self.benchmark,
                         n=n or self.few, seed=self.seed, **own)  # fmt: skip

    def drawn(self, of: str = "", on: str = "", n: int = 0, **own: object) -> pd.DataFrame:
        """Residual metrics of several draws of Noise QKV's matrices."""
        return self._get(self.held, "residual", model=of or self.model, benchmark=on or self.benchmark,
                         n=n or self.half, seed=self.seed, **scorecard.DRAWN | own)  # fmt: skip

    def answers(
        self, name: str, text: str = "none", of: str = "", n: int = 0, run: int = 0, long: bool = False
    ) -> pd.DataFrame:
        """Answers of the untouched model or under an intervention; seeds after the first if shipped, or if `long`."""
        drawn = {"seed": self.seed + run} if text != "none" else {}
        return self._get(self.ask if long or not run else self.held, "answers", model=of or self.model, benchmark=name,
                         n=n or self.n, intervention=text, **drawn)  # fmt: skip

    def runs(self, name: str, text: str, of: str = "", n: int = 0, long: bool = False) -> list[pd.DataFrame]:
        """Answers under an intervention, a run a seed, as many as there are."""
        found = [self.answers(name, text, of, n)]
        try:
            while len(found) < self.seeds:
                found.append(self.answers(name, text, of, n, len(found), long))
        except NotThere:
            pass
        return found

    def noisy(self, name: str, keys: str = "visual", weights: str = "gaussian", **how: Any) -> list[pd.DataFrame]:
        """Answers with other weights on some keys, a run a seed."""
        return self.runs(name, scorecard.NOISE.format(keys=keys, weights=weights), **how)

    @cached_property
    def whole(self) -> pd.DataFrame:
        """Residual metrics as the chapters show them."""
        return self.stream(n=self.many)

    @cached_property
    def usual(self) -> tuple[dict, dict, list]:
        """Answers as the chapters judge them: untouched, with noise on visual keys, on text keys."""
        before = {name: self.answers(name) for name in self.names}
        noisy = {name: self.noisy(name, long=True) for name in self.names}
        return before, noisy, self.noisy(self.sums, "text", long=True) if self.sums else []

    # --- from tables to verdicts --------------------------------------------------------------------------------------

    def of_stream(self, rows: pd.DataFrame, only: Iterable[str] = tuple(scorecard.OF_STREAM)) -> Verdicts:
        """Verdicts from residual rows."""
        return {claim: scorecard.OF_STREAM[claim](rows) for claim in only}

    def of_drawn(self, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows, **own: Any) -> Verdicts:
        """C5, from rows of several draws; nothing where they are not shipped."""
        try:
            return {"C5": claims.noise_qkv_innovates(change(self.drawn(**own)))}
        except NotThere:
            return {}

    def of_answers(self, before: dict, noisy: dict, text: Sequence[pd.DataFrame] = ()) -> Verdicts:
        """Verdicts from each benchmark's untouched answers and those under noise on visual and on text keys.

        What too few seeds leave undecided is left out: that is a rule's caution, and no finding.
        """
        found = {
            f"C7 {name}": claims.noise_is_harmless(before[name], runs, self.chances(name, before[name]), name)
            for name, runs in noisy.items()
        }
        found = {key: v for key, v in found.items() if v.status != claims.UNDECIDED or self._enough(noisy[key[3:]])}
        if len(found) == len(self.names) >= 3:  # fewer cannot tell
            found["C8"] = claims.majority(list(found.values()))
        if text and self.sums and self.sums in before:
            own = before[self.sums]
            needed = claims.text_is_needed(own, text, self.chances(self.sums, own), self.sums)
            found |= {"C9": needed} if needed.status != claims.UNDECIDED or self._enough(text) else {}
        return found

    def chances(self, name: str, rows: pd.DataFrame) -> list[float]:
        """What guessing earns in each of the rows."""
        guess = self.asked_of[name].chances
        return [guess[item] for item in rows["item"]]

    @staticmethod
    def _enough(runs: Sequence[pd.DataFrame]) -> bool:
        return len(runs) >= claims.SEEDS

    def of_model(self, of: str, n: int = 0) -> Verdicts:
        """Verdicts from all answers of another model, or of this one loaded otherwise."""
        before = {name: self.answers(name, of=of, n=n) for name in self.names}
        noisy = {name: self.noisy(name, of=of, n=n) for name in self.names}
        return self.of_answers(before, noisy, self.noisy(self.sums, "text", of=of, n=n) if self.sums else ())

    def of_sinks(self, tau: float = 0.1) -> Verdicts:
        """C10, with another share of its energy from which on a token is a sink."""
        rows = self._get(self.held, "sinks", model=self.model, benchmark=SINGLE, n=min(self.n, FEW), tau=scorecard.TAU)
        return {"C10": claims.sinks_exist(rows.assign(sink=rows["share"] >= tau))}

    def of_cuts(self, flavour: str = "") -> Verdicts:
        """C11a and C11b on the first benchmark, where sinks were planted."""
        name, of, n = self.names[0], self.sinks_in, self.cut
        texts = {keys: f"knockout:keys={keys}{flavour},tau={scorecard.TAU}" for keys in ("sinks", "random")}
        before, cut = (self.answers(name, text, of=of, n=n) for text in ("none", texts["sinks"]))
        others, chance = self.runs(name, texts["random"], of, n), self.chances(name, before)
        found = {"C11a": claims.sinks_are_idle(before, cut, chance, name, planted=True)}
        if self._enough(others):
            found["C11b"] = claims.random_cuts_cost_more(before, cut, others, chance, name, planted=True)
        return found

    def of_var(self, rho: float | None = None) -> Verdicts:
        """C12 over all benchmarks, where sinks were planted; at the paper's rho if none is given."""
        found = []
        for name in self.names:
            text = scorecard.VAR.format(rho=claims.rho_for(name) if rho is None else rho)
            before, after = (self.answers(name, one, of=self.sinks_in, n=self.cut) for one in ("none", text))
            found.append(claims.var_helps(before, after, self.chances(name, before), name, planted=True))
        return {"C12": claims.combined(found)}

    def of_readings(self, said: str) -> Verdicts:
        """C7 and C8 under another reading of the replacement, as `said` names it, from tables of `readings`."""
        before, runs = {}, {}
        for name in self.names:
            rows = self.readings[self.readings["on"] == name]
            made = rows[rows["reading"].map(said_of) == said]
            if len(made):
                before[name] = rows[rows["reading"] == "none"].reset_index(drop=True)
                runs[name] = [run.reset_index(drop=True) for _, run in made.groupby("seed")]
        return self.of_answers(before, runs)

    @cached_property
    def readings(self) -> pd.DataFrame:
        """All readings of the replacement that were measured of this model; no rows where there is no table."""
        found = []
        for name in self.names:
            try:
                rows = self._get(self.held, "readings", model=self.model, benchmark=name, n=min(self.n, READ))
            except NotThere:
                continue
            found.append(rows[~rows["pilot"]].assign(on=name))  # not the other items, by which layers were chosen
        return pd.concat(found) if found else pd.DataFrame(columns=["on", "reading", "seed"])

    def reread(self, name: str, frame: pd.DataFrame, how: str) -> pd.DataFrame | None:
        """The same responses, read by other rules; None where these have nothing for this benchmark's questions."""
        made = self.asked_of[name]
        if how == LETTER:
            right = [
                said.strip().lower() == gold.lower() for said, gold in zip(frame["raw"], frame["gold"], strict=True)
            ]
            return frame.assign(correct=right)
        kinds = {item.kind for item in made.items}
        fit = [one for one, kind in zip(HARNESSES[how], ("yesno", "mcq"), strict=True) if kind in kinds]
        if not fit:
            return None
        marks = made.mark(made.items, frame["raw"].tolist(), fit[0])
        return frame.assign(correct=[m.right for m in marks], parsed=pd.Series([m.parsed for m in marks], dtype="str"))

    def read(self, how: str) -> tuple[dict, dict]:
        """Untouched answers and those under noise on visual keys, read by other rules, on each benchmark."""
        before, noisy, _ = self.usual
        if how == UNREAD_OUT:
            runs = {name: [before[name], *noisy[name]] for name in self.names}
            clear = {
                name: np.logical_and.reduce([run["parsed"].notna() for run in found]) for name, found in runs.items()
            }
            kept = {name: [run[clear[name]] for run in found] for name, found in runs.items()}
        else:
            again = {name: [self.reread(name, run, how) for run in (before[name], *noisy[name])] for name in self.names}
            kept = {name: found for name, found in again.items() if found[0] is not None}
        return {name: found[0] for name, found in kept.items()}, {name: found[1:] for name, found in kept.items()}

    @property
    def computed(self) -> dict[str, tuple[str, int]]:
        """In other arithmetic, by the name of the model loaded so, and the number of items."""
        usual = self.own.usual_dtype if self.own.dtype == "auto" else self.own.dtype
        types = {kind: self.half if kind == "float16" else self.n for kind in TYPES if kind != usual}
        found = {kind: (str(replace(self.own, dtype=kind)), n) for kind, n in types.items()}
        return found | {kind: (str(replace(self.own, backend=kind)), self.n) for kind in BACKENDS}

    def asked(self, name: str, profile: str) -> str:
        """The benchmark in a harness's words; "" where these are ours."""
        other = str(Choice.parse(name)._replace(prompt=PROFILES[profile]))
        family = self.own.card.family if self.own.card else None
        theirs = load_benchmark(other, n=self.n, family=family).items
        same = all(a.prompt == b.prompt for a, b in zip(self.asked_of[name].items, theirs, strict=True))
        return "" if same else other


def said_of(reading: str) -> str:
    """What sets a reading of the replacement apart from the usual one, in words; the usual one has none.

    >>> said_of("sap:keys=visual,queries=text,weights=permuted"), said_of("sap:keys=visual,weights=gaussian,layers=3-5")
    ('rows text, permuted', 'layers 3-5')
    """
    parts = [part.partition("=") for part in reading.removeprefix("sap:").split(",")]
    usual = {("keys", "visual"), ("weights", "gaussian")}
    words = {"queries": "rows ", "weights": ""}
    return ", ".join(words.get(key, f"{key} ") + value for key, _, value in parts if (key, value) not in usual)
