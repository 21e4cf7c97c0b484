"""One model's verdicts, from whatever tables one asks for: what `choices` makes differently. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from lostlib import claims
from lostlib.benchmarks import Benchmark, Choice, load_benchmark
from lostlib.catalog import EXPERIMENTS
from lostlib.checkpoints import ModelChoice
from lostlib.claims.verdicts import Verdict
from lostlib.tables import NotThere

Verdicts = dict[str, Verdict]  # by column: the claim, and of several benchmarks the name, "C7 mini-pope"
FEW, MANY, HALF, READ, CUT = 50, 200, 100, 300, 500  # items: metrics again, in the chapters; float16; readings; sinks
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
RULES: dict[str, Callable[[pd.DataFrame], Verdict]] = {
    "C1": claims.attention_at_tolerance,
    "C2": claims.ffn_innovates,
    "C3": claims.attention_mixes,
    "C4": lambda rows: claims.noise_innovates(rows, "C4"),
    "C5": lambda rows: claims.noise_innovates(rows, "C5"),
    "C6": claims.one_order,
}


class Study:
    """One model's verdicts, and the tables that they rest on.

    Parameters
    ----------
    ask : callable
        Gives a table's rows for an experiment and keywords, as `lostlib.results.Reader`; `NotThere` says that there
        is none, and the choices that need it are left out.
    model, benchmark
        As for `lostlib.results.obtain`; `benchmark` is that of the residual metrics.
    benchmarks : sequence of str
        Those that are answered; the first mini-mathvista among them is asked for C9.
    n, seed, seeds : int
        Items, the first seed and the number of seeds of what is random.
    """

    def __init__(
        self, ask: Callable[..., pd.DataFrame], model: str, benchmark: str, benchmarks: Sequence[str], n: int,
        seed: int = 0, seeds: int = 5,
    ) -> None:  # fmt: skip
        self.ask, self.model, self.benchmark, self.names = ask, model, benchmark, list(benchmarks)
        self.n, self.seed, self.seeds = n, seed, seeds
        self.few, self.many, self.half, self.cut = (min(n, most) for most in (FEW, MANY, HALF, CUT))
        self.own = ModelChoice.parse(model)
        self.asked_of: dict[str, Benchmark] = {name: load_benchmark(name, n=n) for name in self.names}
        self.sums = next((name for name in self.names if Choice.parse(name).rules.sums), None)
        self.sinks_in = f"{model}-sinks" if model == "mini-llava-1.5" else model  # it has none of its own
        self._kept: dict[str, pd.DataFrame] = {}

    def _get(self, experiment: str, **asked: object) -> pd.DataFrame:
        name = f"{experiment} {sorted(asked.items())}"
        if name not in self._kept:
            self._kept[name] = self.ask(experiment, **asked)
        return self._kept[name]

    def stream(self, of: str = "", on: str = "", n: int = 0, **own: object) -> pd.DataFrame:
        """Residual metrics."""
        return self._get("residual", model=of or self.model, benchmark=on or self.benchmark, n=n or self.few,
                         seed=self.seed, **own)  # fmt: skip

    def answers(self, name: str, intervention: str = "none", of: str = "", run: int = 0, n: int = 0) -> pd.DataFrame:
        """Answers of the untouched model or under an intervention."""
        drawn = {"seed": self.seed + run} if intervention != "none" else {}
        return self._get("answers", model=of or self.model, benchmark=name, n=n or self.n, intervention=intervention,
                         **drawn)  # fmt: skip

    def noisy(self, name: str, keys: str = "visual", weights: str = "gaussian", runs: int = 1, **how) -> list:
        """Answers with other weights on some keys, a run a seed."""
        text = f"sap:keys={keys},weights={weights}"
        return [self.answers(name, text, run=run, **how) for run in range(runs)]

    @cached_property
    def whole(self) -> pd.DataFrame:
        """Residual metrics as the chapters show them."""
        return self.stream(n=self.many)

    @cached_property
    def usual(self) -> tuple[dict, dict, list]:
        """Answers as the chapters judge them: untouched, with noise on visual keys (several seeds), on text keys."""
        before = {name: self.answers(name) for name in self.names}
        noisy = {name: self.noisy(name, runs=self.seeds) for name in self.names}
        return before, noisy, self.noisy(self.sums, "text") if self.sums else []

    # --- from tables to verdicts --------------------------------------------------------------------------------------

    def of_stream(self, rows: pd.DataFrame, only: Iterable[str] = tuple(RULES)) -> Verdicts:
        """Verdicts from residual rows."""
        return {claim: RULES[claim](rows) for claim in only}

    def of_answers(self, before: dict, noisy: dict, text: Sequence[pd.DataFrame] = ()) -> Verdicts:
        """Verdicts from each benchmark's untouched answers and those under noise on visual and on text keys."""
        found = {
            f"C7 {name}": claims.noise_is_harmless(before[name], runs, self.asked_of[name].chance, name)
            for name, runs in noisy.items()
        }
        if set(noisy) == set(self.names) and len(noisy) >= 3:  # fewer cannot tell
            found["C8"] = claims.majority(list(found.values()))
        if text and self.sums in noisy:
            found["C9"] = claims.text_is_needed(before[self.sums], text[0], noisy[self.sums], self.sums)
        return found

    def of_model(self, of: str, runs: int, n: int = 0) -> Verdicts:
        """Verdicts from all answers of another model, or of this one loaded otherwise."""
        before = {name: self.answers(name, of=of, n=n) for name in self.names}
        noisy = {name: self.noisy(name, of=of, runs=runs, n=n) for name in self.names}
        return self.of_answers(before, noisy, self.noisy(self.sums, "text", of=of, n=n) if self.sums else ())

    def of_sinks(self, tau: float = 0.1) -> Verdicts:
        """C10, with another share of its energy from which on a token is a sink."""
        rows = self._get("sinks", model=self.model, benchmark=self.benchmark, n=min(self.n, 120), tau="10%")
        return {"C10": claims.sinks_exist(rows.assign(sink=rows["share"] >= tau))}

    def of_cuts(self, flavour: str = "") -> Verdicts:
        """C11, where sinks were planted or grew."""
        name, of = self.benchmark, self.sinks_in
        cut, *others = (
            self.answers(name, f"knockout:keys={keys}{flavour},tau=10%", of=of, run=run, n=self.cut)
            for keys, run in (("sinks", 0), ("random", 0), ("random", 1), ("random", 2))
        )
        chance = load_benchmark(name, n=self.n).chance
        return {"C11": claims.sinks_are_idle(self.answers(name, of=of, n=self.cut), cut, others, chance, name)}

    def of_var(self, rho: float | None = None) -> Verdicts:
        """C12 over all benchmarks, where sinks were planted or grew; at the paper's rho if none is given."""
        found = []
        for name in self.names:
            how = f"var:tau=10%,p=0.6,rho={claims.rho_for(name) if rho is None else rho}"
            before, after = (self.answers(name, text, of=self.sinks_in, n=self.cut) for text in ("none", how))
            found.append(claims.var_helps(before, after, self.asked_of[name].chance, name))
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
        for name in self.names if "readings" in EXPERIMENTS else ():
            try:
                found.append(
                    self._get("readings", model=self.model, benchmark=name, n=min(self.n, READ)).assign(on=name)
                )
            except NotThere:
                continue
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
        """In other arithmetic: the model loaded so, and the number of items."""
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
