# Every target works from a fresh clone: the first one that needs it makes an environment of its own.

PYTHON ?= python3
VENV ?= .venv
# Passed on to `privfed audit`, `pytest` and the benchmark, for example: make audit ARGS="--seed 1"
ARGS ?=
# Test processes side by side; files stay whole, so that fixtures of a file are made once.
TEST_JOBS ?= 2

BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# An audit that ran is a success here whatever it found: passed, policy violated, inconclusive.
RAN = case $$code in 0 | 1 | 3) ;; *) exit $$code ;; esac

.PHONY: help audit audit-fashion test evidence lint types contracts check benchmark benchmark-personalisation benchmark-attacks benchmark-reconstruction clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

audit: $(STAMP) ## Audit the packaged plan on the embedded digits and write a report
	@code=0; $(BIN)/privfed audit $(ARGS) || code=$$?; $(RAN)

audit-fashion: $(STAMP) ## The same audit on Fashion-MNIST (longer; downloads the data once)
	@code=0; $(BIN)/privfed audit fashion-mnist $(ARGS) || code=$$?; $(RAN)

test: $(STAMP) ## Run the tests and the examples in docstrings
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile $(ARGS)

evidence: $(STAMP) ## Run the slow tests: coverage of intervals, null designs, planted leaks
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP) ## Check style and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check types with mypy --strict
	$(BIN)/mypy

contracts: $(STAMP) ## Check that imports point down with import-linter
	$(BIN)/lint-imports

check: lint types contracts test ## Everything a change must pass

benchmark: $(STAMP) ## Print speed ratios measured side by side on this machine
	$(BIN)/python -m audits.benchmark $(ARGS)

benchmark-personalisation: $(STAMP) ## Train personalised methods side by side on three tasks (hours)
	$(BIN)/python -m audits.personalisation $(ARGS)

benchmark-attacks: $(STAMP) ## Run every attack on three pipelines and write the table of docs/attacks.md (hours)
	$(BIN)/python -m audits.attack_table $(ARGS)

benchmark-reconstruction: $(STAMP) ## Invert what clients share and print the tables of docs/reconstruction.md (an hour)
	$(BIN)/python -m audits.reconstruction_table $(ARGS)

clean: ## Remove the environment, caches and build products; runs/ and trained federations stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation starts again, and a finished one is
# repeated only when the project's requirements change.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "privfed needs Python 3.11 or newer, found: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "could not make $(VENV); on Debian and Ubuntu the package python3-venv is needed" >&2; exit 1; }
	@echo 'Installing privfed into $(VENV): minutes the first time, once.'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@touch $@
