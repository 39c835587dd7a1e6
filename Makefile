# Everything a contributor types. "make" alone lists it.
VERSION ?= $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null || echo devel)
BINARY  := bin/velero-plugin-for-kubevirt
IMAGE   ?= velero-plugin-for-kubevirt:$(VERSION)

# What the image says of its origin. It is of the commit, not of the moment: the same commit gives the same bytes.
PLATFORMS ?= linux/amd64 linux/arm64
IMAGES    ?= bin/image
REVISION  ?= $(shell git rev-parse HEAD 2>/dev/null)
CREATED   ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
SOURCE    ?=

# The plugin is built with this compiler everywhere; the go command fetches it. "make vulns" says when a newer one is needed.
TOOLCHAIN ?= go1.26.10

# Generated code that is hardly run is not inlined: 2.6 MB less.
SMALL := $(foreach package,k8s.io/api k8s.io/apiextensions-apiserver k8s.io/client-go k8s.io/kube-openapi github.com/google/gnostic-models kubevirt.io,-gcflags='$(package)/...=-l')

BUILD = GOTOOLCHAIN=$(TOOLCHAIN) go build -trimpath -buildvcs=false -tags grpcnotrace $(SMALL) -ldflags "-s -w -X main.version=$(VERSION)"

# What the plugin takes while a guest is frozen.
WINDOW := go test -count=1 -run '^$$' -bench Window -benchtime 20x ./tests/plugin

# The tools and test components must be built the same way everywhere.
export CGO_ENABLED := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the plugin into bin/
	$(BUILD) -o $(BINARY) .

.PHONY: demo
demo: build ## Watch a VM being backed up, lost and restored (KUBECONFIG=… uses your own cluster; CHECK=1 compares with the README, WRITE=1 writes it)
	go run ./tests/demo -plugin $(BINARY) $(if $(CHECK),-check README.md) $(if $(WRITE),-write README.md)

.PHONY: demo-guest
demo-guest: test-image ## The same with a guest that really boots and writes (root, Debian or Ubuntu)
	go run ./tests/guest/demo -image $(TEST_IMAGE)

.PHONY: cluster
cluster: build ## Bring up the test cluster, print its KUBECONFIG, stop it on Ctrl-C
	go run ./tests/cluster/cmd up --plugin $(BINARY)

.PHONY: test
test: ## Unit and scenario tests, the built binary over Velero's gRPC, csi-sanity, the image
	go test ./...
	go -C tests/cluster/components/csidriver test ./...
	go -C tests/image test ./...

.PHONY: e2e
e2e: build ## The stories on real components (KUBECONFIG=… uses your own cluster)
	go test -count=1 -tags e2e -timeout 60m -parallel 4 -v $(if $(KUBECONFIG),,./tests/cluster/...) ./tests/e2e/...

.PHONY: filters
filters: build ## What every filter of a backup or restore does to VMs and their disks: all of tests/e2e/testdata/filters.md
	FILTERS=all go test -count=1 -tags e2e -timeout 20m -parallel 4 -run TestWhateverIsFiltered -v ./tests/e2e

.PHONY: soak
soak: build ## Back VMs up for HOURS=1 while things go wrong, on three clusters (SEED=n makes the same choices; WRITE=1 keeps the result)
	go test -count=1 -tags e2e,soak -timeout 24h -parallel 4 -run 'TestSoak$$' -v ./tests/e2e

.PHONY: e2e-guest
e2e-guest: build test-image ## Stories with real guests on a real node, without KVM (root, Debian or Ubuntu; STORY=TestName for one)
	go test -count=1 -tags guest -timeout 180m -v $(if $(STORY),-run '$(STORY)') ./tests/guest
	go -C tests/image test -count=1 -tags guest -run Containerd ./...

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

.PHONY: fuzz
fuzz: ## A million inputs for each part that reads what others wrote (TIME=2s for a short one, TARGET=FuzzRules; WRITE=1 for the table)
	go run ./tests/fuzz -time $(or $(TIME),1000000x) -target '$(TARGET)' $(if $(WRITE),-write tests/fuzz/results.json)
	$(if $(WRITE),$(MAKE) readme)

.PHONY: lint
lint: vulns ## Static checks, of the workflows too, and known vulnerabilities
	go -C tests/lint build -trimpath -o $(CURDIR)/bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	go -C tests/lint/actionlint build -trimpath -o $(CURDIR)/bin/ github.com/rhysd/actionlint/cmd/actionlint
	bin/golangci-lint run --build-tags e2e,guest,soak ./...
	cd tests/image && $(CURDIR)/bin/golangci-lint run --build-tags guest ./...
	bin/actionlint -shellcheck= -pyflakes=

# Vulnerabilities known on the day of the database that tests/lint/vulns pins: the same result everywhere, without the network. Today's are for
# VULNDB=https://vuln.go.dev, which .github/workflows/vulnerabilities.yaml asks every day.
VULNDB ?= file://$(shell go -C tests/lint/vulns mod download -json golang.org/x/vulndb | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/data/osv

.PHONY: vulns
vulns: build ## Known vulnerabilities in what the plugin reaches and in what is in its binary (VULNDB=https://vuln.go.dev for today's)
	go -C tests/lint/vulns build -trimpath -o $(CURDIR)/bin/ golang.org/x/vuln/cmd/govulncheck
	GOTOOLCHAIN=$(TOOLCHAIN) bin/govulncheck -db $(VULNDB) -tags grpcnotrace .
	bin/govulncheck -db $(VULNDB) -mode binary $(BINARY)

.PHONY: readme
readme: ## Write the README's generated tables
	go test ./tests/readme -run TestTablesAreCurrent -write

.PHONY: image
image: ## Build the image for amd64 and arm64 into bin/image: an OCI layout, archives for docker, ctr and kind, SBOMs (needs no docker)
	$(foreach platform,$(PLATFORMS),GOOS=$(patsubst %/,%,$(dir $(platform))) GOARCH=$(notdir $(platform)) $(BUILD) -o bin/$(platform)/ . &&) true
	GOTOOLCHAIN=$(TOOLCHAIN) go -C tests/image run . -o $(CURDIR)/$(IMAGES) -name $(IMAGE) -version $(VERSION) -revision "$(REVISION)" \
		-created $(CREATED) -source "$(SOURCE)" $(PLATFORMS:%=$(CURDIR)/bin/%/velero-plugin-for-kubevirt)

# What a real node of the tests gets: that image, for this machine.
TEST_IMAGE = bin/test-image/velero-plugin-for-kubevirt-linux-$(shell go env GOARCH).tar

.PHONY: test-image
test-image:
	$(MAKE) image PLATFORMS=linux/$(shell go env GOARCH) IMAGES=bin/test-image IMAGE=docker.io/library/velero-plugin-for-kubevirt:test

.PHONY: push
push: image ## Build the image and push it (IMAGE=registry.example.com/velero-plugin-for-kubevirt:v0.1.0)
	$(if $(findstring /,$(IMAGE)),,$(error IMAGE says which registry to push to))
	go -C tests/image tool crane push $(CURDIR)/bin/image/oci $(IMAGE)

.PHONY: clean
clean: ## Remove bin/ and the cached components
	rm -rf bin
	go run ./tests/cluster/cmd clean
