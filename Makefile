# `make check` and `make test` need nothing but python3 (with venv), node and npm: they build .venv by themselves.

PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/.installed
BUF := node_modules/.installed
GOOGLEAPIS := build/googleapis/.copied

# In as many processes as there are cores; a module of tests is in one of them, for some share a server.
PARALLEL := -n auto --dist loadscope --no-loadscope-reorder
# The tests that run the ledger, the gate and both ends of the link in their own process.
COVERING := tests/unit tests/model/test_gate_model.py \
	$(foreach name,house rules_* taric_*,--ignore-glob='*/test_$(name).py') \
	$(addprefix tests/integration/test_,gate_*.py ledger_*.py agent_admin_service.py fanout.py link_service.py \
	override_service.py quota_service*.py single_site.py uplink.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv protos docs format check test coverage demo simulate mutants chaos failover fuzz fuzz.keep bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: $(VENV) ## everything Python, installed editable into .venv

$(VENV): pyproject.toml protos/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./protos -e '.[dev]'
	@touch $@

# No lock file: the one package is pinned exactly, and it pins its binaries of the other platforms.
$(BUF): package.json
	npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(GOOGLEAPIS): $(VENV)
	$(BIN)/python -m tools.compile_protos --google $(@D)
	@touch $@

protos: $(VENV) ## generate the Python modules of the .proto files
	$(BIN)/python -m tools.compile_protos

docs: $(VENV) ## generate docs/rules.md from the rules
	$(BIN)/python -m tools.rules_page

format: $(VENV) ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# Every step runs, and the last line names those that failed.
check: $(VENV) $(BUF) $(GOOGLEAPIS) ## formatting, lint, layers, types, generated code, protos
	@failed=; \
	step() { name=$$1; shift; echo "== $$name: $$*"; "$$@" || failed="$$failed $$name"; }; \
	step format $(BIN)/ruff format --check .; \
	step lint $(BIN)/ruff check .; \
	step layers $(BIN)/lint-imports --no-logo; \
	step types $(BIN)/mypy; \
	step generated $(BIN)/python -m tools.compile_protos --check; \
	step rules-page $(BIN)/python -m tools.rules_page --check; \
	step protos node_modules/.bin/buf lint; \
	if [ -n "$$failed" ]; then echo "make check: FAILED:$$failed"; exit 1; fi; \
	echo "make check: all passed"

# Bytecode is kept, whatever the environment says: hundreds of processes are started.
test: $(VENV) ## all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PARALLEL)

coverage: $(VENV) ## branches of ledger, gate and link that tests take; fails below 98 %
	@rm -rf build/coverage && mkdir -p build/coverage
	PYTHONDONTWRITEBYTECODE= $(BIN)/coverage run -m pytest -q $(PARALLEL) -k 'not postgresql' $(COVERING)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

demo: $(VENV) ## a controller and a few agents on this machine
	$(BIN)/python -m examples.demo

# SEEDS=2000 is a night's run. The same seed is the same run.
simulate: $(VENV) ## a whole fleet on simulated time: SEED=1 STEPS=10000 SEEDS=1
	$(BIN)/python -m tests.simulation --seed $(or $(SEED),1) --steps $(or $(STEPS),10000) --seeds $(or $(SEEDS),1)

mutants: $(VENV) ## hunt programs that are broken on purpose, and write down what catches them
	$(BIN)/python -m tests.simulation.mutants_page

chaos: $(VENV) ## real processes under every fault: MINUTES=10, SEED=any
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

# Two controllers on one PostgreSQL database, fifty agents.
failover: $(VENV) ## kill controllers in turn under load: SECONDS=60 EVERY=10 AGENTS=50
	$(BIN)/python -m tests.failover --seconds $(or $(SECONDS),60) --every $(or $(EVERY),10) --agents $(or $(AGENTS),50)

fuzz: $(VENV) ## fuzz the parsers: SECONDS=600 TARGET=taric SEED=1, or INPUT=FILE to see a finding again
	$(BIN)/python -m tests.fuzz run --seconds $(or $(SECONDS),60) --target '$(TARGET)' --input '$(INPUT)' \
		$(if $(SEED),--seed $(SEED)) $(if $(RESUME),--resume)

fuzz.keep: $(VENV) ## take what fuzzing has found into the corpus: TARGET=taric
	$(BIN)/python -m tests.fuzz keep --target '$(TARGET)'

bench: $(VENV) ## measure the speed
	$(BIN)/python -m benchmarks

clean: ## remove everything that make made
	rm -rf .venv build dist node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
