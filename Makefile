# The only verbs anyone must remember: demo, test, check, bench, simulate, docs, compiled.
# They need Python 3.11 or newer; another one than `python3`: make PYTHON=python3.13 test

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DEMO := $(BIN)/python -m qstack_nodes.demo

SEEDS ?= 20000
WORKERS ?= 3
ROUTE_SEEDS ?= $(shell expr $(SEEDS) / 4)

# COMPILED=1 runs test, bench and simulate with the compiled build, which it makes when it is older
# than its source: a copy of qstack that stands before the source on Python's path.
COMPILED ?=
# They replace methods, watch calls or read the source of what is then machine code.
NOT_COMPILED := tests/simulate/test_planted.py tests/simulate/test_routes_planted.py \
    tests/test_docs.py::test_generated_reference_pages_agree_with_the_code \
    tests/whole/test_nights.py::test_no_step_of_a_day_works_out_again_when_links_are_open
MADE := .venv/compiled
RUN := $(BIN)/python
ifneq ($(COMPILED),)
RUN := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(MADE):$(CURDIR):$(CURDIR)/docs/examples $(BIN)/python
BUILT := $(MADE)/qstack/__init__.py
ROOTS := -o pythonpath=docs/examples $(addprefix --deselect=,$(NOT_COMPILED))
endif

.PHONY: demo test check bench simulate docs compiled another

demo: .venv/nodes-installed  ## two live nodes, a station and a simulated world; first pairs
	@$(BIN)/qstack up two_nodes -- $(DEMO)

test: check $(BUILT)  ## everything that must hold; three tests at a time, more by WORKERS=4
	$(RUN) -m pytest -n $(WORKERS) --dist loadgroup $(ROOTS)

check: .venv/all-installed  ## style, types and who imports whom; seconds, no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/all-installed $(BUILT)  ## speed, beside a calibration of this machine; one part: ONLY=peer
	$(RUN) -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

simulate: .venv/all-installed $(BUILT)  ## networks under all faults in virtual time, then planted bugs, chains and refusals; one part: ONLY=pairs or routes
ifneq ($(ONLY),routes)
	$(RUN) -m tests.simulate --seeds $(SEEDS)
	$(RUN) -m tests.simulate --classes
	$(BIN)/python -m tests.simulate --bugs
endif
ifneq ($(ONLY),pairs)
	$(RUN) -m tests.simulate.routes --seeds $(ROUTE_SEEDS)
	$(RUN) -m tests.simulate.routes --crowd --seeds $(ROUTE_SEEDS)
	$(BIN)/python -m tests.simulate.routes --bugs
	$(RUN) -m tests.simulate.chains
	$(RUN) -m tests.simulate.refusals --seeds $(ROUTE_SEEDS)
endif

docs: .venv/all-installed  ## the documentation, into docs/_build/html
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

compiled: $(MADE)/qstack/__init__.py  ## the compiled build; minutes, and a C compiler; then COMPILED=1 to use it

$(MADE)/qstack/__init__.py: .venv/all-installed hatch_build.py pyproject.toml $(shell find qstack nodes -name '*.py' -o -name '*.toml')
	@rm -rf $(MADE)
	QSTACK_COMPILED=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) install --no-deps --target $(MADE) .
	@touch $@

ANOTHER = .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

another:  ## beside .venv an environment of PYTHON=python3.13, with which tests compare histories
	$(PYTHON) -m venv $(ANOTHER)
	$(ANOTHER)/bin/python -m pip --quiet --disable-pip-version-check install -e '.[nodes]' -c constraints.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("qstack needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/nodes-installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -e '.[nodes]' -c constraints.txt
	@touch $@

.venv/all-installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -e '.[nodes,keys,test,docs,dev]' -c constraints.txt
	@touch $@ .venv/nodes-installed
