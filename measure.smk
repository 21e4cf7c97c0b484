"""Measuring: one job per (model, benchmark, intervention, seed, share) of a grid, for every table that is not there.

A job's output is a stamp and not its table, for Snakemake clears a job's outputs away before it begins, and would make
the book's rules measure. Tables appear whole or not at all, and only in place of one that does not serve.
"""

from functools import cache
from uuid import uuid4

import grid
from lostlib.paths import remove, remove_old
from snakemake.exceptions import WorkflowError

GRID = config.get("grid", "data/grid.yaml")
RESULTS = config.get("results", "data/results")
STAMP = "_build/measured/{run}/{table}"
THIS_RUN = uuid4().hex  # no two runs share their stamps


@cache
def measurements():
    return grid.jobs(GRID)


def missing(wildcards):
    try:
        lacking = grid.missing(measurements().values(), RESULTS)
    except (OSError, TypeError, ValueError) as mistake:
        raise WorkflowError(str(mistake)) from None
    remove_old(Path("_build/measured").glob("*"), days=30)
    print(f"{RESULTS} lacks {len(lacking)} of the tables that {GRID} asks for", file=sys.stderr)
    return [STAMP.format(run=THIS_RUN, table=job.name) for job in lacking]


def shares(wildcards):
    count = measurements()[wildcards.table].shares
    return [f"{STAMP.format(**wildcards)}.share{i + 1}" for i in range(count)] if count > 1 else []


def needs(name):
    return lambda wildcards: measurements()[wildcards.table].resources[name]


onsuccess:
    remove(Path("_build/measured") / THIS_RUN)  # where something failed, its log stays for a month

wildcard_constraints:
    run="[^/]+", table=r".+\.s\d+", share=r"\d+",

localrules: measure

rule measure:
    input: missing
    message: "All of them are in {RESULTS}"

rule table:
    input: shares
    priority: 1  # before shares of other tables
    output: touch(STAMP)
    log: f"{STAMP}.log"
    params:
        title=lambda w: measurements()[w.table].title,
        command=lambda w: measurements()[w.table].command(RESULTS),
    resources: mem_mb=needs("mem_mb"), runtime=needs("runtime"), gpu=needs("gpu")
    message: "{params.title}"
    shell: "{PYTHON:q} -m lostlib.cli {params.command} > {log:q} 2>&1"

rule share:
    output: touch(f"{STAMP}.share{{share}}")
    log: f"{STAMP}.share{{share}}.log"
    params:
        title=lambda w: measurements()[w.table].title,
        command=lambda w: measurements()[w.table].command(RESULTS, w.share),
    resources: mem_mb=needs("mem_mb"), runtime=needs("runtime"), gpu=needs("gpu")
    message: "{params.title}, share {wildcards.share}"
    shell: "{PYTHON:q} -m lostlib.cli {params.command} > {log:q} 2>&1"
