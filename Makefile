# make demo   set up and do the main job on handwritten digits
# make test   set up and run the tests
# make triton install a real Triton server for the tests that want one, in an environment of its own
# make check  linters, formatter, type checker and import contract
# make docs   build the documentation site strictly, in an environment of its own
# make fuzz   damaged files through the commands: make fuzz N=10000
# make bench  measure, and print ratios against peers

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Workers share the cores: one thread each is faster than many that wait for one another.
TEST_THREADS := OMP_NUM_THREADS=1
PYTEST_ARGUMENTS ?=

.PHONY: install demo test triton check docs fuzz bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,rtx,cuda,opencv,openvino,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/digits_demo.py --output build/demo

test: $(INSTALLED)
	rm -f .coverage .coverage.*
	$(TEST_THREADS) $(BIN)/python -m pytest --numprocesses auto --dist worksteal --cov --cov-report= $(PYTEST_ARGUMENTS)
	$(BIN)/python -m coverage report

# The wheel of the server needs an older NumPy than ours.
TRITON := build/triton
triton: $(TRITON)/.installed

$(TRITON)/.installed: pyproject.toml
	test -x $(TRITON)/bin/python || $(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --only-binary=nvidia-pytriton '.[triton-test]'
	touch $@

check: $(INSTALLED)
	scripts/check $(BIN)

DOCS := build/docs-venv
docs: $(DOCS)/.installed
	$(DOCS)/bin/python scripts/site_source.py
	$(DOCS)/bin/mkdocs build --strict --quiet

$(DOCS)/.installed: pyproject.toml
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	touch $@

N ?= 1000
fuzz: $(INSTALLED)
	$(TEST_THREADS) $(BIN)/python tests/fuzz/fuzz.py --count $(N)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
