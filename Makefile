.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

TOOLS := tools/bin

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

run: ## Start Keymeter with a private Postgres and a Stripe simulator on http://127.0.0.1:8080
	@scripts/run

build: ## Build the production binary into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/keymeter ./cmd/keymeter

test: ## Run every test, with the race detector
	scripts/test

test-long: ## Run the crash, revocation and billing campaigns in full, for about an hour
	KEYMETER_TEST_LONG=1 KEYMETER_STRESS=3m scripts/test -timeout 90m -run 'RevokedKeys|SpendsSurvive|Stress|^TestLives$$|^TestEveryOrderOfWebhooks$$' \
		./cmd/keymeter ./internal/leases ./internal/httpapi

bench: ## Measure beside baselines; writes docs/benchmarks/latest.md (bench-scale does the rest)
	go run ./bench

bench-scale: ## Measure reads and memory at 1,000,000 keys and 10,000,000 events, for about ten minutes
	go run ./bench -scale -out docs/benchmarks/scale.md

generate: $(TOOLS)/.built ## Write gen/ and the SDK for Go from openapi.yaml and db/
	$(TOOLS)/oapi-codegen -config tools/oapi-server.yaml openapi.yaml
	$(TOOLS)/oapi-codegen -config tools/oapi-client.yaml openapi.yaml
	$(TOOLS)/sqlc generate

drift: ## Fail if gen/, the SDK for Go or go.mod is not what its sources make
	scripts/drift

contract: ## Lint openapi.yaml, and fail if it breaks clients of the last release
	scripts/lint-contract
	scripts/breaking

workflows: ## Run docs/workflows against a server, each answer judged by openapi.yaml
	scripts/workflows

test-pages: ## Test /docs and /reference in a Chromium
	scripts/browser-tests

sdk-go: ## Check the Go client beside a server
	scripts/sdk-go

sdk-typescript: ## Check the TypeScript client beside a server
	scripts/sdk-typescript

sdk-check: ## Have other generators make clients of the contract, and run them beside a server
	scripts/sdk-check

lint: $(TOOLS)/.built ## Run the linters
	$(TOOLS)/golangci-lint run

fmt: $(TOOLS)/.built ## Format the code
	$(TOOLS)/golangci-lint fmt

$(TOOLS)/.built: tools/go.mod tools/go.sum
	cd tools && go build -o bin/ tool
	touch $@

.PHONY: help run build test test-long bench bench-scale generate drift contract workflows test-pages sdk-go sdk-typescript sdk-check lint fmt
