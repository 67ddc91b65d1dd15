# The commands of a developer. For everything else, use cargo.

.PHONY: check test drill bench demo static

# Most integration tests wait for timers, sockets and processes, so they run several per core.
TEST_THREADS = $(shell expr 4 \* $$(nproc))

# Tests that need other tools than cargo, root or more than a minute. `make test` runs them.
SLOW = alert_e2e:: alerts:: ccxt:: dashboard_ deployment:: gzip::chromium image:: network:: prometheus:: secrets:: status_page:: \
	stuck:: systemd:: textfile:: web:: web_config::
# Tests of the rate limits, which simulate thousands of hours.
MODEL = rate_limit_model

# Checks format, types and lints, and runs the fast tests.
check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib -- --skip $(MODEL)
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --test it -- $(SLOW:%=--skip %)

# Installs the tools that the tests need (see tests/install), then runs all tests.
test:
	bash tests/install
	cargo test --locked --lib
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --test it

# Runs the fire drill: shows which alert pages, and after how long.
drill:
	bash tests/install
	cargo test --locked --test it -- --nocapture --test-threads=1 pages_once

# Measures scrapes, here and on other servers. Needs an idle machine.
bench:
	python3 benches/compare.py

demo:
	cargo run --release --locked -- demo

# Builds one static program for an empty container image: target/static/xt-balance-exporter.
# --target keeps RUSTFLAGS away from build scripts and macros.
static: export RUSTFLAGS = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs
static: TARGET = $(shell rustc --print host-tuple)
static:
	cargo build --release --locked --target $(TARGET)
	install -D $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release/xt-balance-exporter $(or $(CARGO_TARGET_DIR),target)/static/xt-balance-exporter
