# What can be done here.  Nothing needs preparing but Python 3.11 or later: each
# target makes the virtual environment, and fetches ZooKeeper if it needs one.

PYTHON ?= python3
OLDEST ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-oldest test-all fuzz soak lint bench docs clean

help: ## say what the targets are
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## a fleet of two ZEO and two HTTP servers, for a minute; no Java
	$(BIN)/zkfleet demo

test: $(READY) zookeeper promtool ## everything that is tested, on the dev server and on a real ZooKeeper
	$(BIN)/python -m pytest

test-oldest: zookeeper ## the quick tests of calls, registry and tree on Debian's own Python
	OLDEST='$(OLDEST)' scripts/test-oldest

test-all: zookeeper promtool ## the tests on every Python from 3.11 to 3.14 that is found, the system's too
	scripts/test-all

fuzz: $(READY) ## ten minutes of damaged requests to the dev server
	ZKFLEET_FUZZ_SECONDS=600 $(BIN)/python -m pytest tests/devserver/test_fuzz.py

SOAK_SECONDS ?= 3600
soak: $(READY) zookeeper ## an hour of ZEO servers that break, while eight clients write
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) --zookeeper real

lint: $(READY) ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY) zookeeper ## the tables of docs/performance.md, measured here
	$(BIN)/python -m benchmarks --write

docs: $(READY) ## the pages that are made of commands' help and answers, and all as a web site in site/
	$(BIN)/python scripts/make-command-docs
	$(BIN)/python scripts/make-monitor-docs
	$(BIN)/mkdocs build --strict --quiet

clean: ## remove what the targets made
	rm -rf $(VENV) .venv-* .cache site dist build

$(READY): pyproject.toml scripts/make-venv
	@echo 'installing into $(VENV) what it needs, some minutes ...'
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

.PHONY: zookeeper
zookeeper:
	@scripts/get-zookeeper

.PHONY: promtool
promtool:
	@scripts/get-promtool >/dev/null
