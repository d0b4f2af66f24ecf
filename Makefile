# All targets set up .venv when it is missing or pyproject.toml has changed. PYTHON is any Python >= 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin

# Other processors, as far as environment variables simulate them, and two threads.
KERNELS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE MKL_CBWR=AVX2 \
  ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2

.PHONY: help demo test test-slow test-portable lint format docs clean

help:  ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /  make \1:/p' Makefile | awk -F: '{ printf "%-22s%s\n", $$1, $$2 }'

demo: $(VENV)/.installed  ## cluster rendered shapes in two ways at once, and leave pictures in demo/
	$(BIN)/python -m pyro_mfcvae demo --out demo --overwrite

test: lint  ## lint, types and tests, and what depends on the processor under the kernels of others
	$(BIN)/python -m pytest
	@for kernels in $(KERNELS); do \
	  echo "$$kernels"; env $$kernels $(BIN)/python -m pytest tests -m portable || exit 1; \
	done

test-slow: $(VENV)/.installed-test  ## the tests that take minutes
	$(BIN)/python -m pytest tests -m slow

test-portable: $(VENV)/.installed-test  ## all tests under the kernels of other processors, in an hour or so
	@for kernels in OMP_NUM_THREADS=1 $(KERNELS); do \
	  echo "$$kernels"; env $$kernels $(BIN)/python -m pytest tests || exit 1; \
	done

lint: $(VENV)/.installed-test  ## lint, format and types, as they stand
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## mend lint and format, where that can be done without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-test  ## build the documentation in site/
	rm -rf site
	$(BIN)/python .ci/docs/build.py site

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

clean:  ## remove what was made
	rm -rf $(VENV) demo site .mypy_cache .pytest_cache .ruff_cache .hypothesis
