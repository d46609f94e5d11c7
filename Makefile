# The one door: `make help` lists what there is. Times are of 2 cores, warm; CONTRIBUTING.md has all of them.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup fmt lint check test ci bench clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing for building and testing (idempotent)
	@scripts/setup

fmt: ## Format the Rust code
	@cargo fmt --all

lint: ## Formatting, clippy with warnings as errors, shellcheck
	@scripts/run fmt shell clippy

check: ## The fast inner loop, no cluster: lint and every test that needs no cluster
	@scripts/run fmt clippy unit

test: ## Everything: sets everything up, then runs every test
	@scripts/run setup unit

ci: ## What .ci/run calls: lint, then test
	@scripts/run --minutes 85 setup fmt shell clippy unit

clean: ## Remove what was built in target/ (caches below ~/.cache/holdfast stay)
	@cargo clean
