# The only entry point: `make` lists what there is.
#
# Builds go where CARGO_TARGET_DIR says, or to cargo's default. Everything but
# the benchmarks uses the dev profile, so that one build serves them all.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# A Rust installed a minute ago is not on the caller's path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

cargo := scripts/cargo-progress
# A build of a commit takes the versions in Cargo.lock; one in progress may add some.
locked := $(if $(CI),--locked)
# Asked for by the recipe: cargo may only be there after the first step.
target_dir := "$$(scripts/target-dir)"

# === For everyone

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^# ===/ { print "\n" substr($$0, 7) } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Three agents on loopback: writes, a crash, a cut, and a verdict per type
	$(target_dir)/debug/coppice-demo

.PHONY: run
run: build ## Leave three agents running, and print curl lines to try
	$(target_dir)/debug/coppice-demo --stay

.PHONY: test
test: prerequisites-test build ## Run all tests
	$(cargo) test $(locked) --workspace

.PHONY: e2e
e2e: build ## The suite against the cluster that KUBECONFIG names (COPPICE_INSTALLED=1: with the Coppice that is there)
	@scripts/e2e

.PHONY: kind-demo
kind-demo: ## Coppice in a kind cluster: three pods, one writes, another reads (needs docker, kind, kubectl)
	scripts/kind-demo

# === For those who change the code

.PHONY: check
check: format-check lint docs licences ## Format, lints, docs and licences; nothing may warn

.PHONY: format
format: ## Format the code in place
	cargo fmt --all

.PHONY: crds
crds: ## Write crds/ from the types in crates/api
	@# Not by scripts/cargo-progress: it needs no RocksDB, and its output is the file.
	yaml=$$(cargo run $(locked) --quiet --package coppice-api --features crdgen --bin crdgen); \
		echo "$$yaml" > crds/coppice.dev_replicationgroups.yaml

.PHONY: sim
sim: build ## Simulate faults over 1,000 seeds (SIM_SEEDS=n: so many; SIM_SEED=n: replay one)
	$(target_dir)/debug/coppice-sim

.PHONY: sim-mutants
sim-mutants: prerequisites ## Show that ordinary seeds catch 15 wrong protocols (SIM_MUTANT=name: one of them)
	@# In the same folder, so that RocksDB is not compiled again: the next
	@# `make build` puts the programs without the switch back.
	$(cargo) build $(locked) --workspace --bins --features coppice-tests/mutants
	SIM_MUTANT=$${SIM_MUTANT:-all} $(target_dir)/debug/coppice-sim

.PHONY: mutants
mutants: ## Mutate crates/crdt and list what no test notices (needs cargo-mutants; an hour or more)
	@command -v cargo-mutants >/dev/null || \
		{ echo "Missing: cargo-mutants. Install it with 'cargo install --locked cargo-mutants'." >&2; exit 1; }
	env -u CARGO_TARGET_DIR PROPTEST_CASES=64 cargo mutants --package coppice-crdt --all-features --jobs 2

.PHONY: chart
chart: prerequisites-chart ## Lint and render the charts; apply them to the API server that KUBECONFIG names, as a dry run
	$(cargo) test $(locked) --workspace --test chart -- --include-ignored

.PHONY: manifests
manifests: prerequisites-chart ## Write what is made of the chart: deploy/coppice.yaml, and the values in its README
	@mkdir -p deploy
	scripts/manifests > deploy/coppice.yaml.new
	mv deploy/coppice.yaml.new deploy/coppice.yaml
	COPPICE_UPDATE=1 $(cargo) test $(locked) --workspace --test chart -- the_readme_lists_the_values

.PHONY: images
images: ## Build the container images (IMAGE_TAG=tag; needs docker)
	scripts/images $${IMAGE_TAG:-dev}

.PHONY: rules
rules: prerequisites-rules build ## Ask a real Prometheus for every figure of alerts and dashboards (of the operator: KUBECONFIG)
	$(cargo) test $(locked) --workspace --test rules -- --include-ignored

.PHONY: bench-quick
bench-quick: prerequisites-bench ## Compare with redis in one interleaved run (release profile)
	$(cargo) build $(locked) --release --workspace --bin coppice-agent --bin coppice-bench
	$(target_dir)/release/coppice-bench

.PHONY: scale
scale: prerequisites ## A million elements and objects on one agent with 256 MiB (release profile)
	$(cargo) build $(locked) --release --workspace --bins
	$(target_dir)/release/coppice-scale

.PHONY: clean
clean: ## Remove what was built
	cargo clean
	rm -rf mutants.out mutants.out.old

# === Steps of the above

.PHONY: prerequisites
prerequisites: ## Check what the system lacks; install it when run as root on Debian
	@scripts/prerequisites

.PHONY: prerequisites-test
prerequisites-test:
	@scripts/prerequisites curl

.PHONY: prerequisites-chart
prerequisites-chart:
	@scripts/prerequisites python3 python3-venv

.PHONY: prerequisites-rules
prerequisites-rules:
	@scripts/prerequisites prometheus

.PHONY: prerequisites-bench
prerequisites-bench:
	@scripts/prerequisites redis-server

.PHONY: build
build: prerequisites ## Compile all programs
	$(cargo) build $(locked) --workspace --bins

.PHONY: format-check
format-check: ## Fail if a file is not formatted
	cargo fmt --all -- --check

.PHONY: lint
lint: ## Clippy over everything, warnings as errors
	$(cargo) clippy $(locked) --workspace --all-targets --all-features -- --deny warnings

.PHONY: docs
docs: ## Build the API documentation, warnings as errors
	RUSTDOCFLAGS='--deny warnings' $(cargo) doc $(locked) --workspace --no-deps --document-private-items

.PHONY: licences
licences: ## Check deny.toml with cargo-deny (built first in CI)
	@scripts/licences $(if $(CI),--install)
