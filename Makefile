# Everything a person or a machine runs. Needs Python >= 3.11 and make; each target makes its own .venv when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench nightly parity clean

# One stamp a set of extras, so that `make demo` does not install the test tools.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: constraints.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,check,studies]"
	touch $@

$(VENV)/.bench: $(VENV)/.core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

$(VENV)/.parity: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[parity,ray]"
	touch $@

demo: $(VENV)/.core
	$(BIN)/python -m vitrail.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow and not parity and not weights and not gpu and not network"

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy vitrail tests benchmarks

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run

parity: $(VENV)/.parity
	$(BIN)/python -m pytest -m parity

nightly: $(VENV)/.parity
	$(BIN)/python -m pytest -m "not weights and not gpu and not network"

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
