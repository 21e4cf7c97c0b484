# Everything happens in .venv and _build; the graph of what depends on what is the Snakefile.

PYTHON ?= python3        # 3.11 or newer; only to make .venv
JOBS ?= 2
PARAMETERS ?=            # make book PARAMETERS="n_items=50 device=cpu" runs every chapter with these
ARGS ?=                  # make test ARGS="-m 'not slow'"

VENV := .venv
READY := $(VENV)/.ready
DAG := $(VENV)/bin/python tools/dag.py
quoted = '$(subst ','\'',$(strip $(1)))'
OPTIONS = --cores $(JOBS) $(if $(strip $(PARAMETERS)),--config $(call quoted,$(PARAMETERS)))

.PHONY: help book decoder test tables measure publish reproduce clean
.DEFAULT_GOAL := help

help:           ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*##/ { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: decoder   ## run the chapters that changed, then build _build/html/index.html
	$(DAG) book $(OPTIONS)
	@echo "the book is at _build/html/index.html"

decoder: $(READY) ## fetch the pretrained decoder, 93 MB, unless it is there; LOST_FETCH=30: within 30 seconds or not, 0: not
	@$(VENV)/bin/python tools/decoder.py

test: book      ## build the book, then run all tests; ARGS="-m 'not slow'": only the quick ones
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

tables: decoder ## measure what the chapters ask for and data/results lacks, and keep it there
	LOST_RECORD=1 $(DAG) chapters --forceall $(OPTIONS)

measure: decoder ## measure what data/grid.yaml asks for and data/results lacks; PARAMETERS="grid=mine.yaml results=OUT"
	$(DAG) measure --keep-going $(OPTIONS)

publish: $(READY) ## run the chapters that changed, then copy their notebooks over the committed ones
	$(DAG) publish $(OPTIONS)

reproduce: decoder ## measure every shipped table again and compare; MODEL=mini-llava-1.5: only this model's
	$(VENV)/bin/lostlib check --all $(if $(MODEL),--model $(call quoted,$(MODEL)))

clean:          ## remove what was built; .venv stays
	rm -rf _build .snakemake data/results.unfinished
	find data \( -name '*.partial' -o -name '*.replaced' \) -prune -exec rm -rf {} +

# The stamp is written last: without it, a .venv is half made and begins again.
# With dependencies: on Linux the lock's torch may resolve to its CUDA build, whose CUDA packages are not in the lock.
# Which build it is, pip's own settings say (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...).
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	-$(VENV)/bin/python -m compileall -q -j 0 $(VENV)/lib >/dev/null  # in parallel; without it each import of torch takes 3 times as long
	touch $@
