# What a person and CI call. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := python3.11
INSTALLED := $(VENV)/.installed
DELTA := $(VENV)/delta
SUITES := $(foreach suite,unit dags plugins databricks integration e2e,$(if $(wildcard tests/$(suite)/test_*.py),$(suite)))
SOURCES := include dags tools bench $(if $(wildcard plugins/*.py plugins/*/*.py),plugins)
LOCK := $(BIN)/uv pip compile requirements.in --quiet --no-header --python-version 3.11
PYTEST_FLAGS ?=
WORKERS ?= 2

# Imports take three to four times as long without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup lock check test drills docs new-model start stop run ui wheel deploy bench-backfill bench-spark clean
.PHONY: up down logs smoke

help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "make test-<suite>       Run one of: $(SUITES); PYTEST_FLAGS are passed on, WORKERS=0 is one process"

setup: $(INSTALLED) ## Install what requirements.txt locks into .venv

$(INSTALLED): requirements.txt plugins/pyproject.toml
	@$(call need,$(PYTHON) -c '$(IS_PYTHON)',Python 3.11,python3.11 python3.11-venv,python@3.11)
	@$(call need,$(JAVA) -version 2>&1 | grep -E $(IS_JAVA),Java 17 or 21 (for Spark),openjdk-17-jre-headless,openjdk@17)
	@$(BIN)/python -c '$(IS_PYTHON)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@uv=$$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.txt); \
	[ "$$($(BIN)/uv --version 2>/dev/null | sed 's/^uv \([^ ]*\).*/uv==\1/')" = "$$uv" ] || \
		{ $(BIN)/python -m ensurepip >/dev/null && $(BIN)/python -m pip install --quiet "$$uv"; }
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --compile-bytecode requirements.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable ./plugins
	@touch $@

IS_PYTHON := import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))
JAVA := "$${JAVA_HOME:+$$JAVA_HOME/bin/}java"
IS_JAVA := '"(17|21)[."]'

# need: the command that must succeed, what is missing if it fails, Debian's packages for it, Homebrew's
need = { $(1); } >/dev/null 2>&1 || { \
	echo "$(2) is missing: apt-get install $(3)   (macOS: brew install $(4))" >&2; exit 1; }

lock: setup ## Lock requirements.in into requirements.txt (LOCK_FLAGS=--upgrade for newer versions)
	$(LOCK) $(LOCK_FLAGS) --output-file requirements.txt

check: setup ## Check style, types, layers, generated docs and requirements.txt; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check
	$(BIN)/python -m tools.views --check
	@cp requirements.txt $(VENV)/requirements.txt
	$(LOCK) --output-file $(VENV)/requirements.txt
	@diff -u requirements.txt $(VENV)/requirements.txt || { echo "requirements.txt is stale: make lock" >&2; exit 1; }

test: $(if $(SUITES),$(SUITES:%=test-%),no-tests) ## Run all tests, the quick ones first; stops at the first suite that fails

test-databricks drills: $(DELTA)/.fetched

$(DELTA)/.fetched: tests/databricks/pom.xml
	@$(call need,mvn -version,Maven (for the jars of Delta),maven,maven)
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DincludeGroupIds=io.delta \
		-DoutputDirectory=$(abspath $(DELTA))
	@touch $@

# a file stays with one worker: some tell a story
test-%: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST_FLAGS) tests/$*

drills: setup ## Long tests outside CI: kill each step, plant each failure and mend it by the commands of its runbook
	$(BIN)/python -m pytest $(PYTEST_FLAGS) tests/faults tests/drills

no-tests:
	@echo "no tests found below tests/" >&2; exit 1

docs: setup ## Write docs/dags.md from the DAGs and docs/views.md from the database
	$(BIN)/python -m tools.docs
	$(BIN)/python -m tools.views

new-model: setup ## Write the folder of a new model: NAME=… OUTCOME=… [PROJECT=flights] [LIKE=a model]
	$(BIN)/python -m tools.new_model --name "$(NAME)" --outcome "$(OUTCOME)" --project "$(or $(PROJECT),flights)" \
		--like "$(LIKE)"

run: setup ## Run the first nights of the sample project on the local stack, from files to scores
	$(BIN)/python -m tools.demo

start: setup ## Start the local stack (PostgreSQL and Airflow) in .local
	$(BIN)/python -m tools.stack start

ui: setup ## Start the local stack with MLflow, schedule tonight's night, and open both in the browser
	$(BIN)/python -m tools.ui

wheel: setup ## Build the wheel of the newest commit into dist/: what Databricks runs
	$(BIN)/python -m tools.wheel build

deploy: setup ## Put the wheel of the newest commit where Databricks finds it: TARGET=/Volumes/… or s3://…
	$(BIN)/python -m tools.wheel deploy "$(TARGET)"

bench-backfill: setup ## Measure a year in one run and 28 nights at once against their goals (docs/speed.md); ten minutes
	$(BIN)/python -m bench.backfill

bench-spark: setup ## Measure start and jobs of Spark by default, as set here, and on a server (docs/speed.md)
	$(BIN)/python -m bench.spark

stop: ## Stop the local stack, leaving no process
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m tools.stack stop

clean: stop ## Stop the local stack and remove all it made
	rm -rf .local

# Containers (docs/deploy-compose.md). A server needs Docker with Compose 2, make and any Python 3: no .venv.
up down logs: export GIT_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

up: ## Build the image and start all containers of docker-compose.yaml; makes .env and secrets/ if they are missing
	python3 -m tools.make_secrets
	docker compose build volumes
	docker compose up --detach --no-build --remove-orphans --wait --wait-timeout 300

down: ## Stop the containers; data, logs and secrets stay
	docker compose down --remove-orphans

logs: ## Follow the containers' logs (SERVICE=scheduler for one)
	docker compose logs --follow --tail 100 $(SERVICE)

smoke: setup ## Run a night in containers of its own, then `cli check` against its database
	$(BIN)/python -m pytest $(PYTEST_FLAGS) tests/containers
