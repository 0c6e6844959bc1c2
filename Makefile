# Everything below sets itself up: a virtual environment with the pinned packages, then the command.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export DS_BUILD_OPS ?= 0
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow lint types bench docs readme-media clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,train,docs]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m unified.cli demo

test: lint types
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

# What takes long: training that must learn, two processes, whole suites, notebooks. ONLY="tests/train" limits it.
test-slow: $(VENV)/.ready
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow $(ONLY)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy and the reference of the site see the packages where a wheel would put them.
build/types: FORCE
	rm -rf build/types && mkdir -p build/types
	cp -r unified build/types/unified
	for part in tokenizers envs tasks train eval; do cp -r $$part build/types/unified/$$part; done

types: $(VENV)/.ready build/types
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p unified

# The site, in build/site.
docs: $(VENV)/.ready build/types
	for part in tokenizers envs tasks train eval; do touch build/types/unified/$$part/__init__.py; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The README's film, chat and figures, made anew with the shipped weights.
readme-media: $(VENV)/.ready
	$(BIN)/python -m unified.eval.media

# `make bench AGAINST=../other`: this checkout beside another one in the same run; OPTIONS="--only var --rounds 2".
bench: $(VENV)/.ready
	$(BIN)/python -m unified.eval.bench $(if $(AGAINST),--against "$(AGAINST)") $(OPTIONS)

FORCE:

clean:
	rm -rf build dist $(VENV)
