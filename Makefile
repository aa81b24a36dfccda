# Everything runs in a virtual environment of its own; each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo quick test soak mutants check docs bench clean

demo: $(VENV)/.installed
	$(BIN)/crossmargin compare --report demo-report.html

# Under 90 s: arithmetic that a trader can check, published figures, the engine.
quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal tests/scenarios tests/published tests/engine

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

# Everything that `test` leaves to a soak: all seeds, variants and run modes, four times the drawn examples. Hours.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not network" --hypothesis-profile=soak

# Changes single operators, numbers and arguments of the engine's decisions and demands that a test fails. Hours.
mutants: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutants]'
	$(BIN)/mutmut run --max-children $(shell nproc)
	PYTHONPATH=tests:. $(BIN)/python -m mutation
	PYTHONPATH=tests:. $(BIN)/python -m mutation --named

check: $(VENV)/.installed-dev docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/calls.py --check
	$(BIN)/python benchmarks/trips.py --check

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/peers.py

clean:
	rm -rf $(VENV) docs/_build docs/venues *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed
