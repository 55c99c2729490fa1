# Sets everything up on a machine that has only Python 3.11 or newer and make. `make help` lists the
# targets. Written for the make that macOS ships (3.81) as well as for current ones.

# PYTHON chooses the interpreter. Left empty, the first suitable one below is taken, and an
# environment that exists already is kept whatever minor version it has.
PYTHON ?=
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
# PORT is the app's port. Left empty, Streamlit takes 8501 or the next free one.
PORT ?=
# PROBLEM adds a model of your own: make app PROBLEM=package.module:factory
PROBLEM ?=
# OPTIONS of the app, such as --shared or --max-steps 2000; the README lists them.
OPTIONS ?=
# ARGS is handed to pytest: make test ARGS="-m 'not browser'"
ARGS ?=
# Tests run file by file in a process per core, four at most, each with one thread for its numerics.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile

VENV_PYTHON := .venv/bin/python
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
HAS_VENV := import venv, ensurepip

.DEFAULT_GOAL := help
.PHONY: help app test check format clean environment environment-dev

help:
	@echo 'make app      set up .venv and open the app on 127.0.0.1   (PORT=8600 chooses the port,'
	@echo '              PROBLEM=package.module:factory adds a model of your own,'
	@echo '              OPTIONS="--shared --max-steps 2000" is handed to the app)'
	@echo 'make test     set up .venv with the test tools and run every test   (ARGS=... for pytest)'
	@echo 'make check    lint, formatting and types'
	@echo 'make format   rewrite the code the way `make check` wants it'
	@echo 'make clean    remove .venv and what tools left behind'
	@echo 'PYTHON=python3.12 with any of them chooses the interpreter.'

app: environment
	@exec $(VENV_PYTHON) -m streamlit run app.py --server.address 127.0.0.1 \
	  $(if $(PORT),--server.port '$(PORT)') $(if $(PROBLEM)$(OPTIONS),-- $(if $(PROBLEM),--problem '$(PROBLEM)') $(OPTIONS))

test: environment-dev
	@$(VENV_PYTHON) -m tests.support.browser
	@OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest $(PARALLEL) $(ARGS)

check: environment-dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

format: environment-dev
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

clean:
	rm -rf .venv .venv.lock .hypothesis .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	$(call set_up,app)

environment-dev:
	$(call set_up,dev)

# Finds the interpreter, says in one sentence what is wrong with it, or lets it set .venv up.
define set_up
@python='$(PYTHON)'; exact=--exact; \
if [ -z "$$python" ]; then \
  python=python3; exact=; \
  for name in $(CANDIDATES); do \
    if "$$name" -c '$(IS_NEW_ENOUGH)' 2>/dev/null && "$$name" -c '$(HAS_VENV)' 2>/dev/null; \
    then python="$$name"; break; fi; \
  done; \
fi; \
if ! "$$python" -c '' 2>/dev/null; then \
  echo "make: got the interpreter '$$python', which does not run; expected Python 3.11 or newer;" \
    "install one or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
elif ! "$$python" -c '$(IS_NEW_ENOUGH)' 2>/dev/null; then \
  echo "make: got $$("$$python" -V 2>&1) from '$$python'; expected Python 3.11 or newer;" \
    "install one or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
elif ! "$$python" -c '$(HAS_VENV)' 2>/dev/null; then \
  echo "make: got '$$python' without the modules venv and ensurepip; expected both; install them" \
    "(Debian and Ubuntu: apt-get install python3-venv) or choose with PYTHON=..." >&2; exit 1; \
fi; \
"$$python" -I tests/support/environment.py $$exact $(1)
endef
