# The one door. What each target does is in scripts/phases.sh; CONTRIBUTING.md has the time each takes.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup fmt lint deps gen check test ci images bench clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install and build what building and testing needs, as far as it is missing (3 s; first time 12 min)
	@scripts/run setup tools

fmt: ## Format the Rust code (1 s)
	@cargo fmt --all

lint: ## Formatting, shellcheck, clippy with warnings as errors (10 s; first time 2 min)
	@scripts/run fmt shell clippy

deps: ## Licences, sources and advisories of all dependencies (5 s)
	@scripts/run tools dependencies

gen: ## Write generated files anew: definitions, manifest, golden files (15 s; read the difference)
	@scripts/run tools gen

check: ## The fast inner loop, no cluster: lint, and every test that needs no cluster (3 min)
	@scripts/run fmt shell clippy unit

test: ## Everything: sets everything up, then runs every test
	@scripts/run setup tools unit

ci: ## What .ci/run calls: lint, dependencies, test
	@scripts/run --minutes 85 setup tools@ fmt shell clippy unit generated dependencies

bench: ## GET and SET beside Debian's redis-server, five interleaved rounds; records in target/bench/ (4 min)
	@scripts/run setup binaries bench

clean: ## Remove target/; caches below ~/.cache/holdfast and the cluster stay
	@cargo clean
