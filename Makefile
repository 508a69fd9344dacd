# Everything a person or a machine runs. Needs Python >= 3.11 and make; each target makes its own .venv when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Left out of the default suite: what is slow or needs more than this machine.
DEFAULT := not slow and not parity and not weights and not gpu and not network
# Tests whose verdict could depend on how a processor rounds, and the settings they also run under.
NUMERIC := tests/models tests/explain tests/checkpoints tests/evaluation tests/training
SAMPLE := tests/models/vit/test_vit_options.py tests/models/test_golden.py tests/explain/methods/test_golden_attention.py
PROCESSORS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=1
SEED := $(shell date +%Y%m%d)

.PHONY: demo test check docs site docs-python docs-settings serve-lock man test-parts processors processors-sample bench nightly parity wheel test-wheel clean

# The documents and project files against the code: links, trees, options, error codes, workflows.
DOCS := tests/test_readme.py tests/test_package.py tests/test_project_files.py tests/cli/test_cli_docs.py tests/models/test_paper_map.py

# One stamp a set of extras, so that `make demo` does not install the test tools.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: constraints.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,check,studies,docs]"
	touch $@

$(VENV)/.wheel: constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt build
	touch $@

$(VENV)/.bench: $(VENV)/.core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

$(VENV)/.parity: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[parity,ray,browser,hub]"
	touch $@

demo: $(VENV)/.core
	$(BIN)/python -m vitrail.demo

# The default suite in parts, two at a time, each part with one thread: two processes with two threads each on two cores wait for one another.
# The parts that take longest begin first. test prints the share of lines and branches that they run and fails below the floor of pyproject.toml;
# tracing takes three quarters of the time again before Python 3.12 (docs/decisions.md), so CI runs test-parts, the same untraced.
LONG := tests/training/ tests/cli/ tests/export/ tests/checkpoints/
PARTS := $(LONG) $(filter-out $(LONG),$(shell find tests -mindepth 2 -name 'test_*.py' | cut -d/ -f1-2 | sort -u | sed 's,$$,/,')) 'tests/test_*.py'
PART := OMP_NUM_THREADS=1 $(BIN)/python
IN_PARTS = printf '%s\n' $(PARTS) | xargs -n 1 -P 2 sh -c 'log=$$(mktemp); $(PART) -m pytest -q -m "$(DEFAULT)" $$0 >$$log 2>&1; code=$$?; cat $$log; rm $$log; exit $$code'
test-parts: $(VENV)/.test
	$(IN_PARTS)

test: PART += -m coverage run --parallel-mode
test: $(VENV)/.test
	$(BIN)/python -m coverage erase
	$(IN_PARTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --sort=cover

processors: $(VENV)/.test
	for setting in $(PROCESSORS); do echo "== $$setting"; env $$setting $(BIN)/python -m pytest -q -m "$(DEFAULT)" $(NUMERIC) || exit 1; done

processors-sample: $(VENV)/.test
	env ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "$(DEFAULT)" $(SAMPLE)

# Two processes halve the time of mypy; on a busy machine they may miss each other's start (exit 2), then one does it.
MYPY := $(BIN)/mypy vitrail tests benchmarks
check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MYPY) --num-workers 2 || { test $$? = 2 && $(MYPY); }

docs: $(VENV)/.test
	$(BIN)/python -m pytest -q $(DOCS)

# The documentation as a site in build/site; fails on a broken link.
site: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# requirements-serve.txt, after a change of constraints.txt.
serve-lock: $(VENV)/.core
	$(BIN)/python -m benchmarks.serve_lock

docs-python: $(VENV)/.core
	$(BIN)/python -m benchmarks.python_page

docs-settings: $(VENV)/.core
	$(BIN)/python -m benchmarks.settings_page

man: $(VENV)/.core
	mkdir -p build
	$(BIN)/vitrail help --man > build/vitrail.1

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run

parity: $(VENV)/.parity
	$(BIN)/python -m pytest -m parity

nightly: $(VENV)/.parity processors test
	$(BIN)/python -m pytest --seed $(SEED) --hypothesis-seed $(SEED) -m "not weights and not gpu and not network"

# Source archive and wheel in dist/; the wheel is built from the archive, which proves that the archive is complete.
wheel: $(VENV)/.wheel
	rm -rf dist
	$(BIN)/python -m build --outdir dist

test-wheel: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/test_wheel.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
