"""Which benchmarks there are, by name."""

from __future__ import annotations

from lostlib.benchmarks import (
    captions,
    hallusionbench,
    mathvista,
    mini,
    mmmu,
    pope,
    realworldqa,
    texts,
    threedsr,
    vmcbench,
)

_MODULES = (pope, threedsr, realworldqa, mmmu, vmcbench, mathvista, hallusionbench)
HUB = {module.RULES.name: module.RULES for module in _MODULES}
NAMESAKES = {rules.name: rules for rules in mini.RULES}
OWN = {rules.name: rules for rules in (captions.RULES, texts.RULES)}  # made here, after nothing on the hub
RULES = NAMESAKES | HUB | OWN
