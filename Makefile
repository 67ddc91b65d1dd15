# The commands of a developer. For everything else, use cargo.

.PHONY: check test drill bench demo static

# Checks format, types and lints.
check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Installs the tools that the tests need (see tests/install), then runs all tests.
test:
	bash tests/install
	cargo test --locked

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
