# AEGIS. `make help` lists the targets. They need Python >= 3.11 with pip and venv, cargo >= 1.95 and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
OLDEST := $(abspath .cache/oldest)
KERAS := $(abspath .cache/keras)
KERAS_TENSORFLOW := $(abspath .cache/keras-tensorflow)
ENGINE_SOURCES := $(shell find aegis_engine \( -name target -o -name __pycache__ \) -prune -o \( -name '*.rs' -o -name '*.toml' -o -name '*.cedar*' -o -name '*.lock' -o -name '*.py*' \) -type f -print)
# Nothing here talks to the network but package installation.
# uv trusts what the system trusts, as pip and cargo do: hospitals have proxies with certificates of their own.
export UV_SYSTEM_CERTS := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

# Built once (4 minutes) beside cargo's other results; a newer one on the PATH is taken instead.
TOOLS := $(abspath $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),aegis_engine/target))/tools
FUZZ := $(or $(shell command -v cargo-fuzz),$(TOOLS)/bin/cargo-fuzz)
FUZZ_RUNS ?= 10000000
# Test files that run at once. Each has a process of its own, so that a file with state of its own stays whole.
TEST_JOBS ?= 2
DENY := $(or $(shell command -v cargo-deny),$(TOOLS)/bin/cargo-deny)

.PHONY: public-sets test-keras test-keras-jax test-keras-tensorflow test-redteam bench-jail bench-jailed check generated docs test-matrix test-hostile miri fuzz fuzz-vault fuzz-secagg test-crash test-mutants help demo test setup deny bench-vault bench-growth lint test-rust test-python test-suite bench-sim bench-secagg bench-startup bench-data bench-first-model wheels test-wheels clean lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

demo: setup ## set up, then run the quickstart: five hospitals, with and without DP
	@echo "aegis: set-up done, the demo starts"
	$(BIN)/aegis run experiment=quickstart compare=true

# Deployments mostly wait, for processes to start and for the SuperLink to give up dead nodes: they run beside all the rest.
define beside-deployments
	@mkdir -p .cache
	$(BIN)/pytest -q -m deployment --durations=10 >.cache/deployments.log 2>&1 & deployments=$$!; \
		$(MAKE) --no-print-directory $(1); others=$$?; \
		echo "the deployments go on; their log is .cache/deployments.log"; \
		wait $$deployments; deployed=$$?; cat .cache/deployments.log; exit $$((others | deployed))
endef

test: setup ## set up and run every test
	$(call beside-deployments,test-rust lint test-suite test-wheels)

# Under a minute after `make setup`: no build, no clippy, no deployment, no federated run.
check: ## what to run before a commit: formatters, ruff, mypy, fast tests
	cd aegis_engine && cargo fmt --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -x tests/contract tests/unit/test_settings.py tests/unit/strategies/test_inner.py \
		tests/unit/strategies/test_grouping.py tests/unit/node/test_trust.py --ignore tests/contract/test_handlers.py

generated: ## write what is made from the code: the report's schema and tables of the documents
	$(BIN)/python tests/contract/generated.py

# In an environment of its own: the plugin does not need mkdocs.
DOCS := .cache/docs
docs: $(UV) ## build the documents as a site into .cache/site; a broken link fails
	$(UV) venv --quiet --allow-existing $(DOCS)
	$(UV) pip install --quiet --python $(DOCS)/bin/python $$($(BIN)/python -c \
		'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

setup: $(VENV)/.installed ## make .venv with everything, build the engine

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.locked: requirements.lock | $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	touch $@

# The oldest Flower that pyproject.toml allows, in front of the locked one on PYTHONPATH: everything else is shared.
$(OLDEST)/.installed: requirements-oldest.lock $(VENV)/.locked
	rm -rf $(OLDEST)
	$(UV) pip install --quiet --python $(BIN)/python --target $(OLDEST) --no-deps --require-hashes -r requirements-oldest.lock
	touch $@

$(VENV)/.installed: $(VENV)/.locked $(OLDEST)/.installed pyproject.toml $(ENGINE_SOURCES)
	cd aegis_engine && ../$(BIN)/maturin develop --release --quiet --uv
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

$(TOOLS)/bin/cargo-deny:
	cargo install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@0.20.2
	rm -rf $(TOOLS)/build

deny: $(DENY) ## licences, sources and versions of the crates in use
	cd aegis_engine && $(DENY) --locked check bans licenses sources

lint: setup deny ## formatters, linters, type checkers
	cd aegis_engine && cargo fmt --check && cargo clippy --release --all-targets --features aegis-vault/failpoints,aegis-vault/fuzzing,aegis-secagg/fuzzing --quiet -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/stubtest.py

test-rust: setup ## Rust tests
	cd aegis_engine && cargo test --release --quiet --lib --tests
	cd aegis_engine && cargo test --release --quiet -p aegis-vault --features failpoints,fuzzing,tables --test crash \
		--test fuzz_short --test memory
	cd aegis_engine && cargo test --release --quiet -p aegis-secagg --features fuzzing --test fuzz_short
	@if cargo +nightly miri --version >/dev/null 2>&1; then $(MAKE) miri; else \
		echo "Miri is left out: rustup toolchain install nightly --component miri,rust-src"; fi

# Built inside the checkout even where CARGO_TARGET_DIR is shared: Miri keeps the path of the checkout that built, and
# cargo takes the result of one path for fresh in another.
miri: ## Miri on the crate that has the unsafe code (needs a nightly toolchain with miri)
	cd aegis_engine && CARGO_TARGET_DIR=target/miri MIRIFLAGS=-Zmiri-strict-provenance cargo +nightly miri test --quiet -p aegis-memory

test-crash: setup ## kill -9 at every fail point of the vault, 20 times each, at every one of recovery, and 400 times at random; all pairs of operations at once, 10 000 times each
	cd aegis_engine && AEGIS_CRASH_REPEATS=20 AEGIS_CRASH_RECOVERY=1 AEGIS_CRASH_RANDOM=400 cargo test --release --quiet \
		-p aegis-vault --features failpoints,tables --test crash -- --nocapture
	cd aegis_engine && AEGIS_RACE_REPEATS=10000 cargo test --release --quiet -p aegis-vault --features tables \
		--test races --test races_of_sets -- --nocapture

test-matrix: setup ## the tests that meet Flower, with the oldest and the newest Flower that pyproject.toml allows
	PYTHONPATH=$(OLDEST) $(BIN)/pytest -q tests/unit tests/e2e tests/property
	$(BIN)/pytest -q tests/unit tests/e2e tests/property

# Keras and what requirements.lock lacks of its needs, beside the locked packages on PYTHONPATH.
$(KERAS)/.installed: requirements-keras.lock $(VENV)/.locked
	rm -rf $(KERAS)
	$(UV) pip install --quiet --python $(BIN)/python --target $(KERAS) --no-deps --require-hashes -r requirements-keras.lock
	touch $@

# The same with TensorFlow. In the locked packages themselves it must not be: Ray's workers die where it is.
$(KERAS_TENSORFLOW)/.installed: requirements-keras-tensorflow.lock $(VENV)/.locked
	rm -rf $(KERAS_TENSORFLOW)
	$(UV) pip install --quiet --python $(BIN)/python --target $(KERAS_TENSORFLOW) --no-deps --require-hashes -r requirements-keras-tensorflow.lock
	touch $@

KERAS_TESTS := tests/unit/learners/test_keras.py \
	tests/e2e/test_flower_examples.py::test_a_keras_model_of_flowers_tensorflow_example_learns_with_dp_of_each_record \
	"tests/e2e/test_projects.py::test_a_new_project_runs_as_made_and_its_model_comes_back[keras]"

test-keras: test-keras-jax test-keras-tensorflow ## models of Keras 3 on JAX and on TensorFlow

test-keras-jax: setup $(KERAS)/.installed ## models of Keras 3 on JAX
	PYTHONPATH=$(KERAS) KERAS_BACKEND=jax $(BIN)/pytest -q $(KERAS_TESTS)

test-keras-tensorflow: setup $(KERAS_TENSORFLOW)/.installed ## models of Keras 3 on TensorFlow, and TensorFlow on a vault by itself
	PYTHONPATH=$(KERAS_TENSORFLOW) KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/pytest -q $(KERAS_TESTS) \
		tests/engine/data/test_frameworks.py::test_the_tensorflow_example_learns_from_the_vault

test-redteam: setup ## every hostile app in the whole jail, in none, with each layer left out and with each alone; renews the table of docs/JAIL.md
	$(BIN)/python tests/redteam/table.py docs/JAIL.md

public-sets: setup ## public data sets of every kind, by commands alone, with and without DP; renews the table of docs/public-sets.md (15 minutes)
	$(BIN)/python tests/public_sets/public_page.py docs/public-sets.md

bench-jailed: setup ## accuracy of jailed apps on two tables, with DP beside without
	$(BIN)/python benches/jailed/accuracy.py

bench-jail: setup ## start of a task, training in a jail beside outside
	$(BIN)/python benches/jail.py

test-hostile: setup ## 100 000 changed messages of a hostile server to a node with strict terms
	AEGIS_HOSTILE=100000 $(BIN)/pytest -q -s tests/property/test_hostile_server.py

$(TOOLS)/bin/cargo-fuzz:
	cargo install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build cargo-fuzz@0.13.2
	rm -rf $(TOOLS)/build

# $(1): crate, $(2): targets, $(3): libFuzzer's limits. Findings are in crates/$(1)/fuzz/artifacts.
define run-fuzz
	cd aegis_engine && cargo run --release --quiet -p aegis-$(1) --features fuzzing --example fuzz_seeds -- \
		crates/$(1)/fuzz/corpus
	cd aegis_engine/crates/$(1) && for target in $(2); do \
		$(FUZZ) run --sanitizer none --release $$target -- -runs=$(FUZZ_RUNS) $(3) -print_final_stats=1 || exit 1; \
	done
endef

fuzz: fuzz-vault fuzz-secagg ## libFuzzer on what comes from untrusted files and peers, 10 million inputs per target

# The first build of each takes 5 minutes on two cores.
fuzz-vault: $(FUZZ) ## libFuzzer on what the vault reads from untrusted files
	$(call run-fuzz,vault,header keystore reader,-max_len=20000 -malloc_limit_mb=33)

fuzz-secagg: $(FUZZ) ## libFuzzer on the messages and both state machines of secure aggregation
	$(call run-fuzz,secagg,codecs client server,-max_len=2048 -malloc_limit_mb=2)

test-python: setup ## Python tests, deployments with real processes among them
	$(call beside-deployments,test-suite)

test-suite: setup ## Python tests but for deployments
	$(BIN)/pytest -q -n $(TEST_JOBS) --dist loadfile --durations=60 -m "not deployment"

bench-growth: setup ## what a vault costs at 10^2 to 10^5 objects, and many small files beside copy and fsync
	$(BIN)/python benches/vault_growth.py

bench-vault: setup ## the vault beside age, cp, plain reads, the raw cipher and pyarrow, on 1 GiB
	$(BIN)/python benches/engine/vault.py --size 1GiB

wheels: setup ## build both wheels into dist/
	rm -rf dist
	cd aegis_engine && ../$(BIN)/maturin build --release --quiet --out ../dist
	$(BIN)/python -m build --quiet --wheel --sdist --no-isolation --outdir dist .

test-wheels: wheels ## install both wheels into a clean environment elsewhere and use them
	$(BIN)/python tests/wheels/check.py dist

bench-sim: setup ## the inprocess runtime beside a bare torch loop
	$(BIN)/python benches/sim.py

test-mutants: setup ## applies each mutant of tests/mutants in a copy and shows that its test turns red (make test does two)
	$(BIN)/python tests/mutants/run.py

bench-secagg: setup ## secure aggregation beside Flower's SecAgg+, same vectors, same run: the goals and a grid (25 minutes)
	$(BIN)/python benches/secagg.py

bench-startup: setup ## what importing the client app costs, for steps that train and steps that do not
	$(BIN)/python benches/startup.py

bench-data: setup ## imports beside pyarrow, permit to first batch, training on a table beside the same rows in memory
	$(BIN)/python benches/tables/goals.py

bench-first-model: wheels ## from two wheels and a CSV file to a private model and its report, in an empty home: commands and seconds
	$(BIN)/python benches/tables/from_two_wheels.py dist

lock: $(UV) ## renew requirements.lock (third-party packages only)
	mkdir -p .cache/lock && grep -v '"aegis-flower-engine==' pyproject.toml > .cache/lock/pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --extra dev --extra ray --extra jax --extra lora --extra sweeps \
		--extra dicom --extra sql --extra tensorboard --extra mlflow --extra wandb --extra dicom --extra sql .cache/lock/pyproject.toml -o requirements.lock

clean: ## remove build results, keep the cargo target folder
	rm -rf $(VENV) dist outputs multirun
