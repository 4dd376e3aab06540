# make run     the chat room, on port 8888        (make run ARGS="--port=9000")
# make test    every test
# make check   formatting, lint, types, layering
# make soak    the page for ten minutes in a talkative room, and a minute in a storm: memory, tasks, input
# make load    how far this room goes here: verdict, figures, report  (make load ARGS="--members 2000")
# make rivals  the same plan against other servers, in turns
# make deps    what the tests need from the system (Debian, as root)

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SERVER := $(VENV)/.server-installed
LOAD := $(VENV)/.load-installed
DEV := $(VENV)/.dev-installed

.PHONY: run test soak check load rivals deps system

run: $(SERVER)
	@$(BIN)/python chatroom.py $(ARGS)

# Four at once even on two cores: most tests wait for other processes. What is imported is compiled once and kept,
# as several hundred processes import it.
test: export PYTHONDONTWRITEBYTECODE =
test: $(DEV) system
	$(BIN)/python -m pytest -n 4 --dist loadgroup tests

# One after the other, on a machine that does nothing else.  SOAK_FLAT_S=600 SOAK_STORM_S=60 SOAK_VISITS=20 SOAK_REPORT=
soak: $(DEV) system
	$(BIN)/python -m pytest -s tests/soak/soak_page.py

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

load: $(LOAD)
	@$(BIN)/python -m loadtest run $(ARGS)

rivals: $(LOAD)
	@$(BIN)/python -m loadtest rivals $(ARGS)

deps:
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium-headless-shell fonts-liberation || \
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-liberation

# A C compiler for the harness' witness, and Chromium for the pages.
system:
	@if command -v cc >/dev/null && command -v chromium-headless-shell >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(MAKE) deps; \
	elif command -v cc >/dev/null && command -v chromium >/dev/null; then :; \
	else echo "Chromium or a C compiler is missing: the tests of the pages, or those of the harness' witness, will be skipped; 'sudo make deps' installs them."; fi

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv is missing: apt-get install python3-venv (Debian)"; exit 1; }

$(SERVER): requirements-server.txt | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-server.txt
	@touch $@

$(LOAD): requirements.txt requirements-server.txt | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@ $(SERVER)

$(DEV): requirements-dev.txt requirements.txt requirements-server.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(SERVER) $(LOAD)
