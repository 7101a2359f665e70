# The two commands of a newcomer are `make demo` and `make test`. Everything is built in the one profile `release`,
# so that RocksDB, which takes a while, is compiled once.

CARGO ?= cargo
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
SOAK_RECORDERS ?= 100
CRASH_ROUNDS ?= 1000
FLIPS ?= 20
MUTATIONS ?= 100000
BUNDLE_GB ?= 4

.PHONY: demo test bench soak campaign contract openapi fuzz fmt lint setup

demo: setup ## a server and four recorders that play the bundled clip
	$(CARGO) run --release -- demo

test: setup ## every test
	$(CARGO) test --release --workspace

bench: setup ## the figures of benches/README.md
	$(CARGO) bench --bench ingest

soak: setup ## many recorders for a long time
	$(CARGO) run --release -- load --recorders $(SOAK_RECORDERS) --seconds $(SOAK_SECONDS) --rate 125000 --length 2 \
		--ramp 20 --loss 2 --storm 60 --marks 30 --backlog 10 --backlog-seconds 300

campaign: setup ## what takes too long for every change: bad networks, kills, flips and changed bundles by the thousand
	$(CARGO) test --release --test campaign -- --nocapture --test-threads 1
	AIGAQ_CRASH_ROUNDS=$(CRASH_ROUNDS) $(CARGO) test --release --test crash --test recorder_crash -- --nocapture
	AIGAQ_FLIPS=$(FLIPS) $(CARGO) test --release --test bit_flips --test export --test api flipped_bit -- --nocapture
	AIGAQ_MUTATIONS=$(MUTATIONS) AIGAQ_BUNDLE_GB=$(BUNDLE_GB) \
		$(CARGO) test --release --test hostile_bundles -- --nocapture --test-threads 1 whatever_is_changed large_bundle

contract: setup ## the API against its own document: schemathesis, from PyPI, looks for a server error
	.ci/contract

openapi: setup ## writes proto/openapi.json anew: what programs of others rely on
	AIGAQ_OPENAPI_WRITE=1 $(CARGO) test --release --test api contract::nothing

fuzz: setup ## every decoder for a minute each; a stable compiler is enough
	command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	$(CARGO) run --release -p aigaq-proto --example seeds
	cd proto && for target in $$($(CARGO) fuzz list); do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target --sanitizer none -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

fmt: ## the formatting
	$(CARGO) fmt --all

lint: setup ## what CI checks before the tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

setup:
	@deploy/setup.sh
