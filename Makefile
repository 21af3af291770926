# `make demo` runs the main job on real data, `make test` checks everything in minutes, and
# `make evidence` compares theory and networks at full size.
# All set themselves up in .venv and need only python3 (3.11 or newer) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-report
FEW_SEVENS := --target digits:1,7 --n-source 40 --n-target 8 --target-richness 0 --particles 256
GALLERY := adaptik-reproduce
# Two processes, which take tests from each other when they have none left.
PARALLEL := -q -n 2 --dist worksteal --durations=15
# The widest networks run for longer than they compile; other tests do not (tests/conftest.py).
OPTIMISED := --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1

.PHONY: demo test evidence wide mutants package lint gallery docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	@echo "==> Does learning 1 against 4 help to tell 1 from 7, of which 8 images are labelled?"
	@$(BIN)/adaptik transfer --source digits:1,4 $(FEW_SEVENS) --splits 5 --richness 0,2 --check-seeds 2 --out $(DEMO)
	@echo "==> The report lies at $(CURDIR)/$(DEMO)/report.html"
	@echo "==> And does learning 0 against 5, with very rich features?"
	@$(BIN)/adaptik transfer --source digits:0,5 $(FEW_SEVENS) --splits 6 --richness 0,8 --folds 2 --check-seeds 0 \
		--brief --out $(DEMO)/hurts

test: lint
	@echo "==> Tests and documentation examples"
	@$(BIN)/pytest $(PARALLEL) -m "not evidence"

evidence: $(VENV)/.installed-dev
	@echo "==> Theory against networks at full size: width sweeps, long solves, kills and resumes"
	@$(BIN)/pytest $(PARALLEL) -m "evidence and not wide"

wide: $(VENV)/.installed-dev
	@echo "==> The widest networks beside the theory: too long for make evidence"
	@XLA_FLAGS="$(OPTIMISED)" $(BIN)/pytest $(PARALLEL) -m wide

mutants: $(VENV)/.installed-dev
	@echo "==> One-line faults that the tests must see"
	@$(BIN)/python benchmarks/mutants.py

package: $(VENV)/.installed-dev
	@echo "==> Wheel and sdist in empty environments, with the README's example"
	@$(BIN)/python benchmarks/package.py

lint: $(VENV)/.installed-dev
	@echo "==> Style, layer order and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

gallery: $(VENV)/.installed
	@echo "==> Every figure with the preset quick; needs CIFAR-10 (ADAPTIK_DATA)"
	@$(BIN)/adaptik reproduce --all --out $(GALLERY)
	@$(BIN)/python -m adaptik.experiments.gallery $(GALLERY) docs

docs: $(VENV)/.installed-docs
	@echo "==> The documentation, with the stored outputs of its tutorials"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "==> It lies at $(CURDIR)/site/index.html"

clean:
	rm -rf $(VENV) $(DEMO) $(GALLERY) site build dist .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or newer, or run make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: adaptik needs Python 3.11 or newer, $(PYTHON) is %d.%d; run make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "==> Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot create $(VENV); on Debian and Ubuntu install the package python3-venv" >&2; exit 2; }
	@touch $@

# Installed editable: only a changed pyproject.toml asks for another installation.
$(VENV)/.installed: pyproject.toml | $(VENV)/.python
	@echo "==> Installing adaptik and its dependencies into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.python
	@echo "==> Installing adaptik with what builds its documentation into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.python
	@echo "==> Installing adaptik with its test tools into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
