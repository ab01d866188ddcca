# Longshore: two commands do all set-up, `make lab` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The pinned toolchain may be installed under another name, such as stable: use that one then,
# so that nothing is downloaded.
ifndef RUSTUP_TOOLCHAIN
TOOLCHAIN := $(shell lab/toolchain.sh)
ifneq ($(TOOLCHAIN),)
export RUSTUP_TOOLCHAIN := $(TOOLCHAIN)
endif
endif

PROGRAMS := controller node-agent controllerctl
TARGET := $(or $(CARGO_TARGET_DIR),target)
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

# The laws try the same random cases each time, so that nobody's change fails by somebody else's
# luck. To explore: PROPTEST_RNG_SEED=$$RANDOM PROPTEST_CASES=2000 make check
export PROPTEST_RNG_SEED ?= 1

# Settings of the lab; the Vagrantfile says what each one means.
export CYCLES KILLS GATE PEERS MIB BIN CASES ROUNDS
export NODES EDGES CONTROLLERS LAB_NET LAB_CPUS LAB_MEMORY LAB_BOX LAB_DRIVER LAB_PROVIDER KEEP

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Builds the three programs in release mode, into .lab/bin
	@command -v cargo >/dev/null || { echo "cargo is missing: install the Rust toolchain with rustup" >&2; exit 1; }
	cargo build --release $(PROGRAMS:%=-p %)
	@mkdir -p .lab/bin
	@# By rename, and only if changed: running programs stay whole, unchanged hosts untouched.
	@for p in $(PROGRAMS); do \
	  cmp -s $(TARGET)/release/$$p .lab/bin/$$p || \
	    { cp $(TARGET)/release/$$p .lab/bin/$$p.new && mv -f .lab/bin/$$p.new .lab/bin/$$p; }; \
	done

.PHONY: route-test
route-test: ## Tests the route of service names, in a network namespace of its own
	unshare -rn cargo test --offline -p node-agent --lib -- --ignored the_kernel

.PHONY: engine-test
engine-test: ## Tests secrets, configs, runs on a real engine: IMAGE=NAME here, or ENGINE=trixie STORE=containerd
ifeq ($(ENGINE),)
	LONGSHORE_ENGINE_IMAGE=$(IMAGE) cargo test --offline -p node-agent --lib -- --ignored real_engine
else
	@cargo test --offline -q -p node-agent --lib --no-run
	@LONGSHORE_ENGINE_IMAGE=longshore-engine-test:1 lab/engine.sh $(ENGINE) $(or $(STORE),classic) \
	  cargo test --offline -p node-agent --lib -- --ignored real_engine || [ $$? = 77 ]
endif

# The debug programs serve as well: make image-test BIN=target/debug
.PHONY: image-test
image-test: $(if $(BIN),,build) ## Images without a registry on real engines, figures printed (ENGINE=trixie STORE=containerd MIB=400)
	@lab/image-test.sh $(or $(ENGINE),trixie) $(or $(STORE),classic)

.PHONY: man
man: build ## Writes manual pages of controllerctl, into .lab/man/man1
	@.lab/bin/controllerctl man .lab/man/man1

PREFIX ?= /usr/local
SHARE := $(DESTDIR)$(PREFIX)/share

.PHONY: install
install: man ## Installs programs, manual pages and completions (PREFIX=/usr/local DESTDIR=)
	install -D -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS:%=.lab/bin/%)
	install -D -m 644 -t $(SHARE)/man/man1 .lab/man/man1/*.1
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	.lab/bin/controllerctl completion bash > $(SHARE)/bash-completion/completions/controllerctl
	.lab/bin/controllerctl completion zsh > $(SHARE)/zsh/site-functions/_controllerctl
	.lab/bin/controllerctl completion fish > $(SHARE)/fish/vendor_completions.d/controllerctl.fish

.PHONY: lab
lab: ## Brings the lab up: an edge and three workers, with the demo app (NODES=3 EDGES=1 CONTROLLERS=1 LAB_NET=192.168.56)
	@lab/setup.sh lab
	@$(MAKE) build
	@lab/up.sh

.PHONY: lab-down
lab-down: ## Removes the lab and all that make lab started (KEEP=images: a warm next start)
	@lab/down.sh

.PHONY: lab-purge
lab-purge: ## lab-down, and removes the packages that make lab installed
	@lab/down.sh purge

.PHONY: lab-stress
lab-stress: ## CPU load in the workers, or in one of them, for a while (SECONDS=60 CPU_LOAD=90 ON=name)
	@lab/stress.sh cpu $(or $(SECONDS),60)

.PHONY: lab-stress-http
lab-stress-http: ## Load on the app's CPU endpoint through HAProxy (SECONDS=60 CONNECTIONS=16 BURN_MS=50)
	@lab/stress.sh http $(or $(SECONDS),60)

.PHONY: examples
examples: ## Runs the READMEs of the examples, command by command, in the lab (NAMES="cpu-steps predict-api")
	@lab/examples.sh $(NAMES)

.PHONY: bench-handover
bench-handover: ## Planned changes under six kinds of traffic, three ledgers (CYCLES=20 GATE=off PEERS=classic,swarm)
	@lab/bench.sh

.PHONY: edge-tests
edge-tests: ## The driver's tests against another HAProxy (HAPROXY=/path/haproxy, or Debian's: SUITE=trixie)
	@SUITE=$(SUITE) lab/edge-tests.sh $(HAPROXY)

comma := ,

.PHONY: faults
faults: ## Hosts, links and programs of the lab fail under load, four ledgers, a line per case (CASES=5,8 ROUNDS=3)
	@lab/faults.sh

.PHONY: bench-edge
bench-edge: ## What servers cost that come and go, a line per case, beside a reload (SERVERS=1000,10000 MAXCONN=64)
	@SERVERS="$(if $(SERVERS),$(SERVERS),1000$(comma)10000)" MAXCONN="$(or $(MAXCONN),64)" cargo bench -q -p longshore-haproxy-driver --bench edge

.PHONY: bench-plan
bench-plan: ## What planning costs, a line per case (MAX=1000000 replicas at most, or ONLY=10000x1000000)
	@MAX="$(or $(MAX),1000000)" ONLY="$(ONLY)" cargo bench -q -p longshore-planner --bench plan

# What cargo-fuzz passes to the compiler, but for the address sanitizer: there is no unsafe code.
SANCOV := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
	-Ccodegen-units=1 --cfg fuzzing

FUZZED := compose edge engine der plan settings state text wire

# Each target's own limits of libFuzzer.
FUZZ_OPTIONS_plan := -max_len=512
FUZZ_OPTIONS_edge := -max_len=1024

.PHONY: fuzz
fuzz: ## Coverage-guided fuzzing of all that others write (T=60 seconds for each target; ONLY="compose wire")
	@RUSTFLAGS="$(SANCOV)" CARGO_TARGET_DIR=target/fuzz cargo build -q --release \
		--target "$$(rustc -vV | sed -n 's/^host: //p')" --manifest-path fuzz/Cargo.toml
	@$(foreach t,$(or $(ONLY),$(FUZZED)),lab/fuzz.sh $(t) $(or $(T),60) $(FUZZ_OPTIONS_$(t)) &&) echo "fuzz: nothing found"

.PHONY: check
check: ## Formatting, lints, unit tests: what needs no lab
	@lab/setup.sh test
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace --exclude longshore-lab
	cargo nextest run -p longshore-lab --lib
else
	cargo test --workspace --exclude longshore-lab --lib --bins --tests
	cargo test -p longshore-lab --lib
endif

.PHONY: test
test: check ## Everything that checks the project, end-to-end tests in the lab included
	@lab/test.sh

.PHONY: sim
sim: ## Simulates whole clusters under faults, in virtual time (SEEDS=10000; one family: FROM=1)
	cargo run --release -q -p longshore-sim -- --seeds $(or $(SEEDS),10000) $(if $(FROM),--from $(FROM))

.PHONY: sim-mutants
sim-mutants: ## Shows that the simulation finds each seeded mistake (SEEDS=1000)
	cargo run --release -q -p longshore-sim --features mutants -- --all-mutants --seeds $(or $(SEEDS),1000)

# Time and randomness of the programs are the simulation's: tokio has to let it.
.PHONY: netsim
netsim: ## Controller and agents with their own network code on a simulated network (SEEDS=300 FROM=1; one: SEED=7)
	@RUSTFLAGS="--cfg tokio_unstable" CARGO_TARGET_DIR=target/netsim cargo build -q --release --manifest-path netsim/Cargo.toml
	@target/netsim/release/longshore-netsim $(if $(SEED),--seed $(SEED) --trace,--seeds $(or $(SEEDS),300) --from $(or $(FROM),1))

.PHONY: durability
durability: ## Kills the controller and cuts its disk's power while clients change things (CUTS=8000 KILLS_9=1000)
	LONGSHORE_CUTS=$(or $(CUTS),8000) cargo test -q -p controller --lib -- --nocapture store::laws::power
	LONGSHORE_KILLS=$(or $(KILLS_9),1000) cargo test -q -p controller --test it -- --nocapture durability

.PHONY: fencing
fencing: ## Checks the fence between controllers and nodes in every order of events, and that each part of it is needed
	cargo run --release -q -p longshore-fence-model
	cargo run --release -q -p longshore-fence-model -- --terms 4 --changes 3 --no-restore

.PHONY: clean
clean: ## Removes what cargo built
	cargo clean
