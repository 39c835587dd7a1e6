# Everything a contributor types. "make" alone lists it.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BINARY  := bin/velero-plugin-for-kubevirt
IMAGE   ?= velero-plugin-for-kubevirt:$(VERSION)

# Generated code that is hardly run is not inlined: 2.6 MB less.
SMALL := $(foreach package,k8s.io/api k8s.io/apiextensions-apiserver k8s.io/client-go k8s.io/kube-openapi github.com/google/gnostic-models kubevirt.io,-gcflags='$(package)/...=-l')

# What the plugin takes while a guest is frozen.
WINDOW := go test -count=1 -run '^$$' -bench Window -benchtime 20x ./tests/plugin

# The tools and test components must be built the same way everywhere.
export CGO_ENABLED := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the plugin into bin/
	go build -trimpath -tags grpcnotrace $(SMALL) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BINARY) .

.PHONY: demo
demo: build ## Watch a VM being backed up, lost and restored (KUBECONFIG=… uses your own cluster; CHECK=1 compares with the README, WRITE=1 writes it)
	go run ./tests/demo -plugin $(BINARY) $(if $(CHECK),-check README.md) $(if $(WRITE),-write README.md)

.PHONY: demo-guest
demo-guest: build ## The same with a guest that really boots and writes (root, Debian or Ubuntu)
	go run ./tests/guest/demo -plugin $(BINARY)

.PHONY: cluster
cluster: build ## Bring up the test cluster, print its KUBECONFIG, stop it on Ctrl-C
	go run ./tests/cluster/cmd up --plugin $(BINARY)

.PHONY: test
test: ## Unit and scenario tests, the built binary over Velero's gRPC, csi-sanity
	go test ./...
	go -C tests/cluster/components/csidriver test ./...

.PHONY: e2e
e2e: build ## The stories on real components (KUBECONFIG=… uses your own cluster)
	go test -count=1 -tags e2e -timeout 60m -parallel 4 -v $(if $(KUBECONFIG),,./tests/cluster/...) ./tests/e2e/...

.PHONY: e2e-guest
e2e-guest: build ## Stories with real guests on a real node, without KVM (root, Debian or Ubuntu; STORY=TestName for one)
	go test -count=1 -tags guest -timeout 180m -v $(if $(STORY),-run '$(STORY)') ./tests/guest

.PHONY: matrix
matrix: build ## A few stories on each release of Velero and KubeVirt, for the README's table
	go run ./tests/matrix
	$(MAKE) readme

.PHONY: bench
bench: build ## What the plugin costs, beside Velero alone (N=200,800 ROUNDS=3 SPREAD=1 PLUGIN=path OUTPUT=json; WRITE=1 for the README, which keeps other N; SNAPSHOTS=1: with snapshots, N=1x8,10x2 WORKERS=1,8 CHECK=1)
	go run ./tests/bench -plugin $(or $(PLUGIN),$(BINARY)) $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(OUTPUT),-o $(OUTPUT)) $(if $(SNAPSHOTS),$(BENCH_SNAPSHOTS),$(BENCH_OBJECTS))
	$(if $(SNAPSHOTS),,$(WINDOW))
	$(if $(WRITE),$(MAKE) readme)

# What "make bench" measures: objects without their disks, or VMs with snapshots of theirs.
BENCH_OBJECTS = $(if $(N),-n $(N)) $(if $(SPREAD),-spread) $(if $(WRITE),-write tests/bench/results.json) -plot bin/bench.svg
BENCH_SNAPSHOTS = -snapshots $(if $(N),-cases $(N)) $(if $(WORKERS),-workers $(WORKERS)) $(if $(CHECK),-check) \
	$(if $(WRITE),-write tests/bench/snapshots/results.json -plot tests/bench/snapshots/frozen.svg,-plot bin/frozen.svg)

.PHONY: smoke
smoke: build ## A short bench that fails when the plugin costs too much
	go run ./tests/bench -plugin $(BINARY) -n 50 -rounds 5 -phases backup -max-ratio 1.5 -max-requests 0.5
	$(WINDOW)

.PHONY: mutants
mutants: ## Break conditions, rules, references and lookups one at a time: a test must notice (a sample; ALL=1, PKG=pkg/rules, SEED=n)
	go run ./tests/mutants $(if $(ALL),-all) $(if $(PKG),-package $(PKG)) $(if $(SEED),-seed $(SEED))

.PHONY: lint
lint: ## Static checks
	go -C tests/lint build -trimpath -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run --build-tags e2e,guest ./...

.PHONY: readme
readme: ## Write the README's generated tables
	go test ./tests/readme -run TestTablesAreCurrent -write

.PHONY: image
image: build ## Build the container image (needs docker)
	docker build -t $(IMAGE) .

.PHONY: clean
clean: ## Remove bin/ and the cached components
	rm -rf bin
	go run ./tests/cluster/cmd clean
