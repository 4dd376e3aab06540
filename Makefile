# make run     the chat room, on port 8888        (make run ARGS="--port=9000")
# make test    every test
# make check   formatting, lint, types, layering
# make bench   speed and memory against a naive server
# make deps    what the tests need from the system (Debian, as root)

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SERVER := $(VENV)/.server-installed
DEV := $(VENV)/.dev-installed

.PHONY: run test check bench deps browser

run: $(SERVER)
	@$(BIN)/python chatroom.py $(ARGS)

test: $(DEV) browser
	$(BIN)/python -m pytest -n 2 tests

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python -m loadtest.bench $(ARGS)

deps:
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-liberation

browser:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(MAKE) deps; \
	else echo "Chromium is missing: tests/test_browser.py will be skipped; 'sudo make deps' installs it."; fi

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv is missing: apt-get install python3-venv (Debian)"; exit 1; }

$(SERVER): requirements-server.txt | $(VENV)/bin/pip
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-server.txt
	@touch $@

$(DEV): requirements-dev.txt requirements.txt requirements-server.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(SERVER)
