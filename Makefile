# The one door. What each phase does is in scripts/phases.sh; CONTRIBUTING.md has the time each target takes.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup fmt lint deps gen check cluster images test e2e e2e-full ci demo demo-down bench bench-operator conformance clients fuzz valgrind clean

# "@": beside the following ones.
CLUSTER := setup cluster@
ALL := setup tools@ cluster@
TESTS := binaries@ unit generated suite clients images e2e

help: ## This list; times are of 2 cores, with warm caches (cold: the first time on a machine)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install and build what building and testing needs, as far as it is missing
	@scripts/run setup tools

fmt: ## Format the Rust code
	@cargo fmt --all

lint: ## Formatting, shellcheck, links of the documentation, clippy with warnings as errors
	@scripts/run fmt shell docs clippy

deps: ## Licences, sources, advisories and duplicates of all dependencies
	@scripts/run tools dependencies

gen: ## Write the generated files again: definitions, manifest, golden files; read the difference
	@scripts/run tools gen

check: ## The fast inner loop, no cluster: lint, and every test that needs no cluster
	@scripts/run fmt shell docs compile unit

cluster: ## A Kubernetes of three nodes on this machine: made, mended, or found
	@scripts/run cluster

images: ## The images of server and operator, into the cluster
	@scripts/run cluster@ binaries images

test: ## Everything: sets everything up, then runs every test, the cluster's included
	@scripts/run $(ALL) $(TESTS)

e2e: ## Only the tests on the cluster, which is made for them and kept
	@scripts/run $(CLUSTER) binaries images e2e

e2e-full: ## The same with the behaviours that take minutes each: a fleet, a node that dies
	@HOLDFAST_E2E_FULL=1 scripts/run $(CLUSTER) binaries images e2e

ci: ## What .ci/run calls: lint, dependency policy, then every test, the cluster's included
	@scripts/run --minutes 85 $(ALL) fmt shell docs compile dependencies $(TESTS)

demo: ## A story on a real cluster, from an empty one to data restored on another node; sets everything up
	@scripts/run $(CLUSTER) binaries images
	@e2e/demo/run

demo-down: ## Remove the cluster with all that is in it; what was slow to build stays
	@e2e/cluster/down --all

bench: ## Speed, memory and latency beside Valkey, Redis and f00b60a, judged by gates; BENCH_PAGE=1 writes the figures' page
	@scripts/run setup binaries bench

bench-operator: ## A thousand Stores and ten thousand StoreBackups: requests, memory, latency of the operator; BENCH_PAGE=1 writes the page
	@scripts/run setup tools binaries fleet

conformance: ## Redis 7.0.15's own test suite against ours and against redis-server; results in target/conformance/
	@scripts/run setup binaries conformance

clients: ## redis-py and go-redis drive the server: types, pipelines, transactions, channels, blocking commands, SCAN
	@scripts/run setup tools binaries clients

fuzz: ## Every fuzz target for FUZZ_SECONDS (600), two at a time on 2 cores; a finding fails with its input
	@scripts/run setup fuzz

valgrind: ## The tests of entries and tables, watched by valgrind; PROPTEST_CASES (8) of each property
	@scripts/run setup valgrind

clean: ## Remove target/; the cluster and what is kept below ~/.cache/holdfast stay
	@cargo clean
