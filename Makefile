# The only entry points. `make help` says what there is.
#
# Everything that is installed goes into .postern/ (ignored by git), in pinned versions with hashes; the one
# system package is mosquitto, the second MQTT broker of the tests, which no language's registry has.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TOOLS := .postern
PYTHON ?= python3
PROGRAMS := -p dispatcher -p task-token-done -p postern-worker -p postern-local
LOCAL := cargo run --quiet -p postern-local --
# cargo-lambda must never install a toolchain behind our back.
export RUSTUP_DIST_SERVER := http://127.0.0.1:9

.PHONY: help
help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# ---- Run it --------------------------------------------------------------------------------------

.PHONY: demo
demo: tools programs ## Run one job the whole way on this machine, and show it
	@$(LOCAL) demo

.PHONY: up
up: tools programs ## Start the local stack and leave it running
	@$(LOCAL) up

.PHONY: run
run: tools programs ## Start an execution on what `make up` started: make run INPUT='{"a":1,"b":2}'
	@$(LOCAL) run $(if $(INPUT),'$(INPUT)')

.PHONY: down
down: tools programs ## Stop what `make up` started
	@$(LOCAL) down

.PHONY: programs
programs:
	@echo "== building the functions, the worker and the local stack"
	@cargo build --locked $(PROGRAMS)

# ---- Tools, pinned -------------------------------------------------------------------------------

.PHONY: tools
tools: $(TOOLS)/venv/.done ## Install what the local stack needs into .postern/

$(TOOLS)/venv/.done: local/ministack/requirements.txt
	@echo "== installing the emulator into $(TOOLS)/venv (pinned, hashes checked)"
	@rm -rf $(TOOLS)/venv
	@$(PYTHON) -m venv $(TOOLS)/venv
	@$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
