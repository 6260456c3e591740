# `make demo` shows it working, `make test` proves it, `make verify` is the gate before a push.
# Everything uses cargo's dev profile (see Cargo.toml), so that the C++ of RocksDB is compiled once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup build demo sim test lint verify fix golden fuzz bench bench-peers chaos soak image smoke

# Where libclang is, when it is not where bindgen looks by itself.
ENV := . .tools/env;

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup:
	@scripts/setup.sh build

build: setup ## compile the workspace
	@$(ENV) cargo build --locked --workspace --bins

demo: build ## three nodes on this machine, real tasks, a killed leader; KEEP=1 leaves it running
	@scripts/demo.sh

test: setup ## all tests, with all they need; CI=true turns "cannot run here" into a failure
	@scripts/setup.sh test
	$(ENV) scripts/test.sh

sim: setup ## more seeds of the simulation: SEEDS=N from SEED=S on; LOG=1 prints what happened
	$(ENV) SIM_SEED=$${SEED:-1} SIM_SEEDS=$${SEEDS:-1} $${LOG:+env SIM_LOG=1} cargo test --locked -p sched-sim-node --test simulation -- --exact seeds_hold --nocapture

lint: setup ## formatting, clippy, dependencies, advisories, documentation; changes nothing
	@scripts/setup.sh lint
	$(ENV) scripts/lint.sh

verify: lint test ## the whole gate, before a push

fix: setup ## what a machine can mend: formatting and clippy's suggestions
	@cargo fmt --all
	$(ENV) cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged

golden: setup ## rewrite the expected output of golden tests; read the diff
	@$(ENV) export UPDATE_GOLDEN=1
	cargo test --locked -p sched-core --test golden --test encoding
	cargo test --locked -p schedcli
	git --no-pager diff --stat

fuzz: setup ## TARGET=rule SECONDS=60: feed one parser with what chance makes of its corpus
	@$(ENV) scripts/fuzz.sh "$(TARGET)" "$(or $(SECONDS),60)"

bench: build ## the figures in README, measured on this machine
	@$(ENV) cargo run --quiet --locked -p sched-tests --bin bench -- $(BENCH)

bench-peers: build ## the same work on etcd, NATS and beanstalkd, in turn, as ratios; QUICK=1 takes two minutes
	@scripts/setup.sh peers
	$(ENV) cargo run --quiet --locked -p sched-tests --bin bench-peers -- $(if $(QUICK),--quick)

chaos: build ## real processes under real faults, MINUTES=60 or as told, MIXES=…, SECONDS of load each; needs root
	@scripts/setup.sh test
	$(ENV) cargo run --quiet --locked -p sched-tests --bin chaos -- --minutes "$${MINUTES:-60}" $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(MIXES),--mixes $(MIXES))

soak: build ## a cluster at work under kills and frequent snapshots, and what grows in it: MINUTES=30 or as told
	@$(ENV) cargo run --quiet --locked -p sched-tests --bin soak -- --minutes "$${MINUTES:-30}"

image: build ## a container image from the binaries built here; BINARIES=build compiles inside the image
	@deploy/image.sh

smoke: build ## start each form of deployment that can run here, run one task in it, stop it
	@deploy/smoke.sh
