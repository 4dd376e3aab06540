# make run     the chat room, on port 8888        (make run ARGS="--port=9000")
# make test    every test
# make check   formatting, lint, types, layering
# make soak    the page for ten minutes in a talkative room, and a minute in a storm; the server for an hour of churn
# make faults  crashes, power cuts, failing disks, storms of reconnects, hostile peers: each often
# make conformance  Autobahn|Testsuite, and seven WebSocket clients in one room: what they need is fetched first
# make fuzz    a million inputs for whatever reads what others send         (FUZZ_INPUTS=1000000)
# make audit   asks about known vulnerabilities of all that is installed; status 2 if that could not be asked
# make load    how far this room goes here: verdict, figures, report  (make load ARGS="--members 2000")
# make rivals  the same plan against other servers, in turns
# make performance  the table of docs/performance.md: about an hour  (make performance ARGS="--plans steady20 --rounds 3")
# make deps    what the tests need from the system (Debian, as root)

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SERVER := $(VENV)/.server-installed
LOAD := $(VENV)/.load-installed
DEV := $(VENV)/.dev-installed

.PHONY: run test soak faults conformance fuzz audit check load rivals performance deps system

run: $(SERVER)
	@$(BIN)/python chatroom.py $(ARGS)

# Four at once even on two cores: most tests wait for other processes. What is imported is compiled once and kept,
# as several hundred processes import it.
test: export PYTHONDONTWRITEBYTECODE =
test: $(DEV) system
	$(BIN)/python -m pytest -n 4 --dist loadgroup tests

# One after the other, on a machine that does nothing else.  SOAK_FLAT_S=600 SOAK_STORM_S=60 SOAK_VISITS=20 SOAK_REPORT=
# SOAK_SERVER_S=3600 SOAK_SERVER_GRAPH=docs/soak.svg SOAK_SERVER_REPORT=
soak: $(DEV) system
	$(BIN)/python -m pytest -s tests/soak/soak_page.py tests/soak/soak_server.py

# How often is said by the environment; what came of each is printed, and added to the file.
faults: export CHATROOM_KILLS ?= 100
faults: export CHATROOM_POWER_CUTS ?= 2000
faults: export CHATROOM_DISK_FAULTS ?= 20
faults: export CHATROOM_STORM ?= 5000
faults: export CHATROOM_HOSTILE ?= 1
faults: export CHATROOM_SERVER_KILLS ?= 40
faults: export CHATROOM_SERVER_STOPPED_S ?= 10
faults: export CHATROOM_REDIS_RESTARTS ?= 15
faults: export CHATROOM_REDIS_WIPES ?= 8
faults: export CHATROOM_REDIS_DEAF_S ?= 60
faults: export CHATROOM_REDIS_CUTS ?= 5
faults: export CHATROOM_SERVER_STORM ?= 2000
faults: export CHATROOM_SERVER_HOPS ?= 5000
faults: export CHATROOM_ROLLING ?= 300
faults: export FAULTS_REPORT ?= results/faults.txt
faults: $(DEV) system
	@mkdir -p results
	$(BIN)/python -m pytest -s tests/faults tests/test_rolling.py

conformance: $(DEV) system
	$(BIN)/python -m pytest -s tests/conformance/check_autobahn.py tests/conformance/check_clients.py

fuzz: export FUZZ_INPUTS ?= 1000000
fuzz: $(DEV)
	$(BIN)/python -m pytest -s tests/test_fuzz.py

audit: $(DEV)
	@$(BIN)/python -m tests.audit

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

load: $(LOAD)
	@$(BIN)/python -m loadtest run $(ARGS)

rivals: $(LOAD)
	@$(BIN)/python -m loadtest rivals $(ARGS)

performance: $(LOAD)
	@$(BIN)/python -m loadtest performance $(ARGS)

deps:
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev strace openssl sqlite3
	PATH="$$PATH:/usr/sbin" command -v redis-server >/dev/null || $(MAKE) unstarted-redis-server
	PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null || $(MAKE) unstarted-nginx
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium-headless-shell fonts-liberation || \
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-liberation

# Where there is none: the tests' nginx and Redis are not to serve, not now and not when the machine starts anew.
unstarted-%: POLICY := /usr/sbin/policy-rc.d
unstarted-%:
	if [ ! -e $(POLICY) ]; then \
		trap 'rm $(POLICY)' EXIT; printf '\043!/bin/sh\nexit 101\n' >$(POLICY); chmod +x $(POLICY); fi; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $*
	! command -v systemctl >/dev/null || systemctl disable $*

# A C compiler and OpenSSL for the harness' programs in C, strace for power cuts, openssl for certificates, sqlite3 and nginx for what
# docs/operations.md has operators do, Redis for the shared log, and Chromium for the pages.
NEEDED := cc strace openssl sqlite3 nginx redis-server

system:
	@missing=; for each in $(NEEDED) chromium-headless-shell; do \
		PATH="$$PATH:/usr/sbin" command -v $$each >/dev/null || missing="$$missing $$each"; done; \
	[ -e /usr/include/openssl/ssl.h ] || missing="$$missing libssl-dev"; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(MAKE) deps; \
	elif [ "$$missing" = " chromium-headless-shell" ] && command -v chromium >/dev/null; then :; \
	else echo "Missing:$$missing. The tests that need them will be skipped; 'sudo make deps' installs them."; fi

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
