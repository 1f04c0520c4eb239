# What the project builds, and how it is checked. `make` alone lists the targets.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# seccomp: without the tag libcontainer builds, but has no seccomp.
GOBUILD := go build -trimpath -tags seccomp -ldflags "$(LDFLAGS)"
TAGS    := -tags seccomp
TOOLBIN := $(CURDIR)/.cache/bin
export PATH := $(PATH):$(TOOLBIN)

# Packages without kernel objects of their own: these run under the race detector and need no root.
PURE := ./pkg/triton/... ./pkg/backtrace/... ./pkg/cluster/... ./pkg/journal/... ./pkg/telemetry/... ./pkg/dockerapi/... ./pkg/tritonapi/... ./pkg/dashboard/... ./pkg/throttle/...
FUZZTIME ?= 30s
PREFIX   ?= /usr/local
UNITDIR  ?= /etc/systemd/system
RUN_ARGS ?= --data-root /var/lib/tritond --run-root /run/tritond -H unix:///run/tritond/docker.sock

.DEFAULT_GOAL := help
.PHONY: test-many test-pids peer compose test-clients test-conformance web web-test web-bench help deps deps-run build run demo demo-stop install uninstall test test-unit test-race test-kernel test-vm test-races test-e2e generate lint vet bench bench-floods bench-probes bench-services bench-cores fuzz sched-bench sched-replay clean docker-cli registry

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what building and testing need and is missing (Debian packages, the docker client)
	@tools/deps

deps-run: ## install what building and running need and is missing, and a docker client into .cache/bin
	@tools/deps run

build: ## build tritond, triton-shim, triton-enter, triton, triton-init, triton-core and triton-backtrace into bin/
	@mkdir -p bin
	$(CC) -static -Os -s -Wall -Wextra -Werror -o bin/triton-init cmd/triton-init/init.c
	CC="$(CC)" cmd/triton-enter/build bin/triton-enter
	CGO_ENABLED=1 $(GOBUILD) -o bin/triton-shim ./cmd/triton-shim
	CGO_ENABLED=1 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/tritond ./cmd/tritond
	CGO_ENABLED=0 $(GOBUILD) -o bin/triton ./cmd/triton
	CGO_ENABLED=0 $(GOBUILD) -o bin/triton-core ./cmd/triton-core
	CGO_ENABLED=0 $(GOBUILD) -o bin/triton-backtrace ./cmd/triton-backtrace

run: deps-run build ## install what is missing, build, and run the daemon in the foreground (root); RUN_ARGS="..." gives its flags
	@bin/tritond $(RUN_ARGS)

demo: ## show a running daemon at work: three images from Debian packages, load, a crash; DEMO_ARGS="-H unix:///..." for another daemon
	@go run ./test/demo $(DEMO_ARGS)

demo-stop: ## take back what the demo made
	@go run ./test/demo -stop $(DEMO_ARGS)

install: build ## install binaries, the docker plugin and the systemd unit below PREFIX (/usr/local); DESTDIR for packages
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins $(DESTDIR)$(UNITDIR)
	install -m 0755 bin/tritond bin/triton-shim bin/triton-enter bin/triton-init bin/triton-core bin/triton-backtrace bin/triton $(DESTDIR)$(PREFIX)/bin/
	ln -sf ../../../bin/triton $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins/docker-triton
	sed 's#@PREFIX@#$(PREFIX)#g' deploy/systemd/tritond.service.in >$(DESTDIR)$(UNITDIR)/tritond.service

uninstall: ## remove what install put there; the data root stays
	rm -f $(DESTDIR)$(PREFIX)/bin/tritond $(DESTDIR)$(PREFIX)/bin/triton-core $(DESTDIR)$(PREFIX)/bin/triton-backtrace $(DESTDIR)$(PREFIX)/bin/triton-shim $(DESTDIR)$(PREFIX)/bin/triton-enter $(DESTDIR)$(PREFIX)/bin/triton-init $(DESTDIR)$(PREFIX)/bin/triton
	rm -f $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins/docker-triton $(DESTDIR)$(UNITDIR)/tritond.service

test: ## everything that takes part in CI
	.ci/run

test-unit: ## tests that make no kernel objects
	go test $(TAGS) -skip '^TestKernel' ./bpf/... ./cmd/... ./internal/... ./pkg/...

test-race: ## the pure packages under the race detector
	go test $(TAGS) -race -skip '^TestKernel' $(PURE)

test-kernel: ## tests on this machine's kernel (root)
	go test $(TAGS) -count=1 -p 1 -run '^TestKernel' ./bpf/... ./cmd/... ./pkg/... ./test/engine/... ./test/images/...

test-many: ## 1,100 links in one network, which is more than a bridge has ports (root; 15 s)
	TRITON_E2E_LONG=1 go test $(TAGS) -count=1 -run MoreContainersOnANetwork ./pkg/network

test-pids: build ## whose a core dump is, while 2,000 crashes in two containers share a few process numbers (root; a minute or two)
	TRITON_E2E_LONG=1 go test $(TAGS) -count=1 -timeout 10m -run CoresOfReusedPids ./test/e2e

test-races: build ## the daemon under the race detector, 200 lives of containers in four loops beside readers (root)
	@mkdir -p .cache/race
	CGO_ENABLED=1 go build -race -o .cache/race/tritond ./cmd/tritond
	cp bin/triton bin/triton-shim bin/triton-enter bin/triton-init bin/triton-core bin/triton-backtrace .cache/race/
	GORACE=halt_on_error=1 TRITON_E2E_BIN=$(CURDIR)/.cache/race TRITON_E2E_LONG=1 \
		go test $(TAGS) -count=1 -timeout 12m -run 'RaceHunt|EndOfAnOutput|Restarting|OnFailure|TestHealth|TestUpdate|PoliciesSurvive' ./test/e2e

test-vm: ## probes and their functions, control groups and core dumps on Debian 12's kernel (6.1) in qemu, by software emulation; a minute or two (root)
	tools/vm/run

test-e2e: build registry compose $(PEERDEP) ## the docker client against the built daemon (root)
	go test $(TAGS) -count=1 -timeout 20m ./test/e2e/...

test-conformance: build registry compose $(PEERDEP) ## the scripts of each docker command; TRITON_E2E_HOST=moby runs them on a modern dockerd (root)
	go test $(TAGS) -count=1 -timeout 10m -parallel 4 ./test/conformance

web: web/node_modules ## build the page anew into web/dist (Node 18 or newer, npm)
	cd web && npm run --silent check && npm run --silent build
	go run ./web/compress web/dist

web-test: build web/node_modules ## the page's unit tests, and the page in chromium against the built daemon (root)
	cd web && npm test --silent
	go test $(TAGS) -count=1 -timeout 8m -v ./test/web

test-clients: build registry test/clients/node_modules $(PEERDEP) ## dockerode and testcontainers against the built daemon; TRITON_E2E_HOST=moby for a modern dockerd (root)
	go test $(TAGS) -count=1 -timeout 8m ./test/clients

web-bench: web/node_modules ## limits of the page with 1,000 made-up containers; MINUTES=10 watches the heap that long
	go build -o bin/fleet ./test/web/fleet
	cd web && node build.mjs bench && node .cache/bench/bench.mjs ../bin/fleet $(or $(MINUTES),1)

web/node_modules test/clients/node_modules: %/node_modules: %/package-lock.json
	cd $* && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

generate: ## regenerate committed files (BPF objects, tables); needs clang 14
	go generate ./...

lint: $(TOOLBIN)/golangci-lint ## golangci-lint on everything
	$(TOOLBIN)/golangci-lint run

vet: ## go vet on everything
	go vet $(TAGS) ./...

# The engine that PEER or TRITON_E2E_HOST names is built when it is the modern one.
PEERDEP := $(if $(filter moby,$(PEER) $(TRITON_E2E_HOST)),peer)

bench: build registry $(PEERDEP) ## benchmarks; PEER=docker.io, PEER=moby or PEER=unix:///SOCKET compares with another engine
	PEER=$(PEER) go run $(TAGS) ./test/bench $(BENCH_ARGS)

bench-probes: ## what observation costs: system calls beside an empty pair of hooks and bpftrace, switches, profiles, memory; BENCH_ARGS="-only calls" for a part (root; under ten minutes)
	@go run ./test/bench/probes $(BENCH_ARGS)

bench-floods: build ## a neighbour's latency and the daemon's answers while a container forks, executes, crashes, logs or writes without end, or a client makes events; BENCH_ARGS="-only log" for one (root; four minutes)
	@go run ./test/bench/floods $(BENCH_ARGS)

bench-services: build ## what redis and nginx lose at full load at each level of probes; BENCH_ARGS="-compare places" beside the host's own speed (root; 25 minutes)
	go run $(TAGS) ./test/bench/services $(BENCH_ARGS)

bench-cores: build ## what a crash of a large process costs, beside the kernel's own stream of its core (root)
	go run ./test/bench/cores $(BENCH_ARGS)

fuzz: ## each fuzz test for FUZZTIME (30s)
	tools/fuzz $(FUZZTIME)

sched-bench: ## latency of placements at 1k, 10k and 100k nodes
	go test ./pkg/sched -run XXX -bench Place -benchtime 50000x

sched-replay: ## replay usage traces: TRACES=DIR with the traces, OUT=DIR for the report
	go run ./test/schedreplay -traces $(TRACES) -out $(OUT)

clean: ## remove what was built
	rm -rf bin .cache

# The linter is built from a module of its own: about four minutes of two cores when Go's cache is cold.
$(TOOLBIN)/golangci-lint: tools/lint/go.mod
	cd tools/lint && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Only where no docker client is on PATH; see tools/deps. docker/cli has no go.mod, so Go takes it for code of 1.16.
docker-cli: $(TOOLBIN)/docker
$(TOOLBIN)/docker: test/tools/go.mod
	cd test/tools && CGO_ENABLED=0 go build -o $@ -trimpath -gcflags 'github.com/docker/cli/...=-lang=go1.26' \
		-ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$$(go list -m -f '{{.Version}}' github.com/docker/cli | sed 's/^v//; s/+.*//')" \
		github.com/docker/cli/cmd/docker

# The registry that pulls and pushes are tested against. Like the client, it is built from a module of its own.
registry: $(TOOLBIN)/registry
$(TOOLBIN)/registry: test/tools/go.mod test/tools/registry/main.go
	cd test/tools && go build -o $@ -trimpath -ldflags "-s -w" ./registry

# The compose plugin that test/e2e and test/conformance run, from a module of its own too: a minute or two when Go's cache is cold.
compose: $(TOOLBIN)/docker-compose
$(TOOLBIN)/docker-compose: test/compose/go.mod
	cd test/compose && CGO_ENABLED=0 go build -o $@ -trimpath -ldflags "-s -w \
		-X github.com/docker/compose/v5/internal.Version=$$(go list -m -f '{{.Version}}' github.com/docker/compose/v5)" github.com/docker/compose/v5/cmd

# A modern Docker engine to compare with, from a module of its own: some ten minutes of two cores when Go's cache is cold.
# No test of the project needs it.
peer: $(TOOLBIN)/peer/dockerd ## build the modern dockerd that PEER=moby and TRITON_E2E_HOST=moby start
$(TOOLBIN)/peer/dockerd: test/peer/go.mod
	cd test/peer && CGO_ENABLED=1 go build -tags "seccomp exclude_graphdriver_btrfs no_btrfs" -o $(@D)/ -ldflags "-s -w \
		-X github.com/moby/moby/v2/dockerversion.Version=$$(go list -m -f '{{.Version}}' github.com/moby/moby/v2 | sed s/^v//)" tool
	@touch $@
