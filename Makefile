# Needs make and Python 3.11 or newer with its venv module; uses uv where it is installed.
#
#   make demo                       a first look, in a few seconds
#   make test                       the tests; ARGS='-k retry -x' is passed on to pytest
#   make test PYTHON=python3.13     with a Python of your choice; `make clean` first, if .venv is there

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench soak clean FORCE

BIN := .venv/bin
# Test processes at a time. Tests start workers and commands themselves: more is not faster.
JOBS ?= 2

help:
	@echo 'make demo     a first look: jobs on real files, retries, the dead letter queue'
	@echo "make test     the tests (ARGS='-k retry -x' is passed on to pytest)"
	@echo 'make lint     ruff, mypy, import-linter'
	@echo 'make format   put the code into shape'
	@echo 'make bench    measure, side by side with xargs and a bare script (minutes)'
	@echo 'make soak     the tests that take many minutes'
	@echo 'make clean    remove .venv and what the tools left behind'

demo: .venv/ready
	@$(BIN)/python main.py demo $(ARGS)

test: .venv/ready
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

soak: .venv/ready
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

lint: .venv/ready
	@echo 'ruff';          $(BIN)/python -m ruff check --quiet --output-format concise .
	@echo 'ruff format';   $(BIN)/python -m ruff format --check --quiet .
	@echo 'mypy --strict'; $(BIN)/python -m mypy --no-error-summary main.py src tests bench
	@echo 'for Windows';   $(BIN)/python -m mypy --no-error-summary --platform win32 --cache-dir .mypy_cache/windows src
	@echo 'import-linter'; $(BIN)/lint-imports --no-logo

format: .venv/ready
	@$(BIN)/python -m ruff check --fix --quiet . ; $(BIN)/python -m ruff format --quiet .

# Without byte code on disk every start of queuectl would be measured as a first one.
bench: .venv/ready
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m bench $(ARGS)

clean:
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment -----------------------------------------------------------------------

# What uv may choose by itself, should it have to: no version that nobody has tried.
TRIED := >=3.11,<3.15
UV := $(shell command -v uv 2>/dev/null)

# The newest Python here that can make a virtual environment. Names alone do not tell: a version
# manager puts up names that do not run, and some systems ship Python without its venv module.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$p" && break; done)

# What .venv/ready holds: an environment that was copied or moved along points to its old place.
ifneq ($(shell cat .venv/ready 2>/dev/null),$(CURDIR))
.venv/ready: FORCE
endif

.venv/ready: pyproject.toml constraints.txt
ifneq ($(UV),)
	@echo 'Preparing .venv with uv'
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { rm -rf .venv; uv venv --quiet --python '$(or $(PYTHON),$(TRIED))' .venv; }
	@uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
else
	@[ -n '$(PYTHON)' ] || { \
	echo 'queuectl needs Python 3.11 or newer with its venv module, and found none here.' >&2; \
	echo 'Install one (on Debian and Ubuntu: apt install python3 python3-venv),' >&2; \
	echo 'or name one that is not on the PATH: make PYTHON=/path/to/python3 ...' >&2; exit 1; }
	@echo 'Preparing .venv with $(PYTHON) (a minute the first time)'
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| '$(PYTHON)' -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --editable '.[dev]'
endif
	@pwd -P > $@

FORCE:
