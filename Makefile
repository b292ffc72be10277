# Every target sets up what it needs in .venv; the second time that is nothing.
# Only Python >= 3.11 and a Rust toolchain have to be there.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
BIN := .venv/bin
MATURIN := PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/.venv env --unset=MAKEFLAGS --unset=MFLAGS $(BIN)/maturin
# maturin and cargo in turn would recompile pyo3 each time in one folder.
MATURIN_TARGET := target/maturin
RUST := Cargo.toml Cargo.lock build.rs $(shell find rust -name '*.rs')
# Of jobs side by side make tells its recipes how they share work, by descriptors that these do not have.
ALONE := env --unset=MAKEFLAGS --unset=MFLAGS
PYTHON_SOURCES := python tests examples benches
CLIPPY := -- -D warnings

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/.tools: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@# What is imported is compiled then: a third of what is installed.
	$(BIN)/python -m pip install --quiet --no-compile --group dev 'torch>=2.4'
	@touch $@

.venv/.extension: .venv/.tools pyproject.toml $(RUST)
	$(MATURIN) develop --quiet --release --target-dir $(MATURIN_TARGET)
	@touch $@

.PHONY: build
build: .venv/.extension ## Build the extension and install the package into .venv

.PHONY: demo
demo: build ## Train a small model with DPO on image pairs (the main job; about two minutes)
	$(BIN)/python examples/train_dpo.py

.PHONY: demo-trl
demo-trl: build ## Train with TRL's DPOTrainer, with its collator and with ours: the same losses (seconds)
	$(BIN)/python examples/trl_dpo.py

.PHONY: demo-ray
demo-ray: build ## Train the demo's model with Ray Data and Ray Train, in two workers (two minutes)
	$(BIN)/python examples/ray_dpo.py

.PHONY: test
test: ## Run every check and test
	@# Two at a time: tests in Python wait for workers, and for what they have forked, a third of their time; and what
	@# needs no Python is done while the packages are installed. The examples of docs-check are among the tests.
	$(MAKE) --no-print-directory --jobs=2 lint test-rust test-python-e-z test-python-a-d test-python-ray docs-rust bench-fast
	$(MAKE) --no-print-directory coverage

# The Python that the extension is checked for is that of .venv.
lint-rust docs-rust: export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.PHONY: lint
lint: lint-python lint-rust ## Check format, lints, types and stubs

# (Both in one folder: what the crate depends on is then checked once.)
.PHONY: lint-rust
lint-rust: $(BIN)/python
	cargo fmt --check
	$(ALONE) cargo clippy --quiet --locked --all-targets --target-dir $(MATURIN_TARGET) $(CLIPPY)
	$(ALONE) cargo clippy --quiet --locked --all-targets --features python --target-dir $(MATURIN_TARGET) $(CLIPPY)
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	@# Without libFuzzer, which takes a minute to compile.
	$(ALONE) cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --no-default-features $(CLIPPY)

.PHONY: lint-python
lint-python: build
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/mypy $(PYTHON_SOURCES)
	@# (The stubs do without torch, which takes mypy four fifths of the time.)
	$(BIN)/python -m mypy.stubtest dpo_collate._core \
		--mypy-config-file <(printf '[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n')

.PHONY: format
format: .venv/.tools ## Format everything
	cargo fmt
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/ruff check --fix-only $(PYTHON_SOURCES)

.PHONY: docs-check
docs-check: build docs-rust ## Build the Rust documentation, run the README's and docstrings' examples
	$(BIN)/python -m pytest --quiet python tests/test_docs.py

# (As if there were examples: so the dependencies are those that clippy has checked.)
.PHONY: docs-rust
docs-rust: $(BIN)/python
	RUSTDOCFLAGS=-Dwarnings $(ALONE) cargo doc --quiet --locked --no-deps --lib --examples --features python \
		--target-dir $(MATURIN_TARGET)

.PHONY: test-rust
test-rust: ## Test the Rust core; needs no Python
	$(ALONE) cargo test --quiet --locked

.PHONY: test-python
test-python: build ## Test the package, with coverage
	$(MAKE) --no-print-directory --jobs=2 test-python-a-d test-python-e-z test-python-ray
	$(MAKE) --no-print-directory coverage

# By the first letter of a test's file, the one half as long as the other. Ray's come in a process of their own: it leaves
# threads behind, and other tests fork. The docstrings' examples come last: what one shows at its end stays alive, and
# tests count what is in use.
.PHONY: test-python-a-d test-python-e-z test-python-ray
test-python-a-d: TESTS := tests/test_[a-d]*.py
test-python-e-z: TESTS := $(filter-out tests/test_ray.py,$(wildcard tests/test_[e-z]*.py)) python
test-python-ray: TESTS := tests/test_ray.py
test-python-a-d test-python-e-z test-python-ray: build
	COVERAGE_FILE=.coverage.$@ $(ALONE) $(BIN)/python -m pytest --quiet --session-timeout=1800 --cov --cov-report= --cov-fail-under=0 $(TESTS)

.PHONY: coverage
coverage:
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

.PHONY: test-oldest
test-oldest: .venv/.tools ## Test with the oldest torch and NumPy that are supported (in an environment of its own)
	$(PYTHON) -m venv target/oldest
	target/oldest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	target/oldest/bin/python -m pip install --quiet --group test --group demo --group tables 'torch==2.4.*' 'numpy==1.26.*' 'pyarrow==21.*'
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/target/oldest $(BIN)/maturin develop --quiet --release --target-dir $(MATURIN_TARGET)
	target/oldest/bin/python -m pytest --quiet --ignore tests/test_ray.py --ignore python/dpo_collate/ray.py

# The files of rust/arena with loom's atomics: more threads, values and orders than the tests above run through.
.PHONY: loom
loom: ## Run the protocol of leases under loom, and through more of its states (minutes, most of them to compile)
	RUSTFLAGS="--cfg loom" cargo test --quiet --locked --release --test model --target-dir target/loom -- --nocapture
	DPO_COLLATE_EXPLORE=1 RUSTFLAGS="--cfg loom" cargo test --quiet --locked --release --test rust --target-dir target/loom \
		-- --nocapture every_state

# What these say is counted where figures are asked for.
NOTED = 2>&1 | $(BIN)/python tests/figures.py

VALGRIND := valgrind --quiet --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=1

.PHONY: valgrind
valgrind: $(BIN)/python ## Run the Rust tests under valgrind (which has to be installed)
	@# valgrind does not know the system call that tells when another process ends (pidfd_open); and states are many.
	PROPTEST_CASES=8 cargo test --quiet --locked --test rust --config 'target."cfg(all())".runner = "$(VALGRIND)"' \
		-- --skip what_a_killed_owner_sent --skip every_state $(NOTED) valgrind errors=0

# Seconds of fuzzing, all targets together. With SANITIZER=address what is read out of bounds is found as well.
SECONDS := 300
SANITIZER := none

.PHONY: fuzz
fuzz: ## Fuzz the Rust core: make fuzz SECONDS=600 (needs a C++ compiler)
	fuzz/run.sh $(SECONDS) $(SANITIZER)

# Of Python's own there are undefined values, and what is made once is lost when it ends: both are for the tests in Rust.
.PHONY: valgrind-python
# (Nor would anybody wait for the search for what is lost: it goes through the 32 GiB of addresses that are kept for blocks.)
valgrind-python: build ## Run the Python boundary, without torch, under valgrind (which has to be installed; minutes)
	PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind --quiet --error-exitcode=1 --leak-check=no \
		--undef-value-errors=no --suppressions=tests/valgrind.supp $(BIN)/python tests/boundary_alone.py \
		$(NOTED) valgrind errors=0

BOUNDARY := tests/test_safety.py tests/test_errors.py tests/test_arrow_hostile.py tests/test_arrow_errors.py

.PHONY: fuzz-python
fuzz-python: build ## Attack the Python boundary for SECONDS, guided by coverage (atheris)
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target target/atheris atheris
	mkdir -p target/fuzz-python target/fuzz-python-found
	PYTHONPATH=target/atheris $(BIN)/python tests/atheris_boundary.py -max_total_time=$(SECONDS) -max_len=256 \
		-rss_limit_mb=8192 -timeout=120 -artifact_prefix=target/fuzz-python-found/ target/fuzz-python

.PHONY: leaks
leaks: build ## Call every entry point, also with what it refuses, for SECONDS: memory must not grow
	cd tests && ../$(BIN)/python growth.py $(SECONDS)

.PHONY: debug-malloc
debug-malloc: build ## Test the boundary where freed memory is overwritten, with all of Python's own checks
	PYTHONMALLOC=debug MALLOC_PERTURB_=165 $(BIN)/python -X dev -m pytest --quiet -p no:cacheprovider $(BOUNDARY) \
		tests/test_memory.py tests/test_media.py $(NOTED) debug-malloc

.PHONY: parallel
parallel: build ## Test the boundary with each test in four threads at once (pytest-run-parallel)
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target target/parallel pytest-run-parallel
	@# (Its plugin is loaded by its name: it is in the path.)
	PYTHONPATH=target/parallel $(BIN)/python -m pytest --quiet --parallel-threads=4 \
		tests/test_errors.py tests/test_arrow_errors.py tests/test_named.py $(NOTED) parallel most_threads=4

.PHONY: bench
bench: build ## Measure: kernels, collation, delivery, plans, checks against other ways; draw docs/loader.png
	cargo bench --locked --bench kernels
	$(BIN)/python benches/collate.py
	$(BIN)/python benches/trainers.py
	$(BIN)/python benches/arrow.py
	$(BIN)/python benches/ray_data.py
	$(BIN)/python benches/sampler.py
	$(BIN)/python benches/check.py
	$(BIN)/python benches/loader.py --plot docs/loader.png

.PHONY: bench-fast
bench-fast: build ## Run the benches once, so that they never rot
	@# As tests are compiled: their dependencies are there, and the release profile takes a minute to link.
	$(ALONE) cargo test --quiet --locked --bench kernels -- --test
	$(BIN)/python benches/collate.py --fast
	$(BIN)/python benches/trainers.py --fast
	$(BIN)/python benches/arrow.py --fast
	$(BIN)/python benches/ray_data.py --fast
	$(BIN)/python benches/sampler.py --fast
	$(BIN)/python benches/check.py --fast
	$(BIN)/python benches/loader.py --fast --plot target/loader.png

.PHONY: peers
peers: .venv/.tools ## Get the originals of the drop-ins from GitHub into peers/, for tests and benches to compare with
	$(BIN)/python tests/peers.py

.PHONY: soak
soak: MINUTES ?= 15
soak: SEED ?= 1
soak: build ## Loaders of all kinds at once, with kills, for some MINUTES: every batch is compared
	$(BIN)/python -W ignore tests/soak.py --seconds $$(( $(MINUTES) * 60 )) --seed $(SEED) --at-once 3

.PHONY: fuzz-layouts
fuzz-layouts: build ## Try random batches of every layout for SECONDS
	$(BIN)/python -m dpo_collate.testing --seconds $(SECONDS) --out target/fuzz-layouts \
		$(if $(DPO_COLLATE_FIGURES),--json $(DPO_COLLATE_FIGURES)/kit.jsonl)

.PHONY: injections
injections: build ## Refuse what can be refused, and kill wherever one can be killed, for up to SECONDS
	$(BIN)/python -W ignore tests/injections.py all 1 $(SECONDS)

.PHONY: reliability
reliability: export DPO_COLLATE_FIGURES := $(CURDIR)/target/figures
reliability: build ## Run all that is written down in docs/reliability.md, and write it (hours)
	rm -rf target/figures
	mkdir -p target/figures
	cargo test --quiet --locked
	$(BIN)/python -m pytest --quiet tests/test_hostile.py tests/test_references.py tests/test_injection.py \
		tests/test_testing_check.py
	$(MAKE) loom valgrind valgrind-python debug-malloc parallel
	$(MAKE) fuzz SECONDS=3600
	$(MAKE) fuzz SECONDS=1800 SANITIZER=address
	$(MAKE) fuzz-layouts fuzz-python leaks SECONDS=900
	$(MAKE) injections SECONDS=3600
	$(MAKE) soak MINUTES=30
	$(BIN)/python tests/reliability.py target/figures

.PHONY: audit
audit: .venv/.tools ## Ask the databases of known vulnerabilities (which have to be reachable)
	cargo install --quiet --locked --root target/audit cargo-audit
	PATH="$(CURDIR)/target/audit/bin:$$PATH" cargo audit
	$(PYTHON) -m venv target/audit/venv
	target/audit/venv/bin/python -m pip install --quiet pip-audit
	target/audit/venv/bin/pip-audit --strict -r <($(BIN)/python -m pip freeze --exclude-editable) --no-deps --disable-pip

.PHONY: wheel
wheel: .venv/.tools ## Build a wheel and a source distribution into dist/
	$(MATURIN) build --quiet --release --sdist --out dist --target-dir $(MATURIN_TARGET)

.PHONY: clean
clean: ## Remove everything that was built, .venv included
	rm -rf .venv target dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache python/dpo_collate/_core*.so
