# What a developer runs. Everything else is plain cargo.

.PHONY: test drill bench demo static

# Installs what the tests need (see tests/install), then runs them all.
test:
	bash tests/install
	cargo test --locked

# The alerts, run whole: what pages, and after how long.
drill:
	bash tests/install
	cargo test --locked --test it -- --nocapture --test-threads=1 pages_once

# What a scrape costs here and elsewhere; wants a machine that does nothing else.
bench:
	python3 benches/compare.py

demo:
	cargo run --release --locked -- demo

# One program without libraries, for a container without a system: target/static/xt-balance-exporter.
# Named by its target, so that the flags are not meant for what runs during the build.
static: export RUSTFLAGS = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs
static: TARGET = $(shell rustc --print host-tuple)
static:
	cargo build --release --locked --target $(TARGET)
	install -D $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release/xt-balance-exporter $(or $(CARGO_TARGET_DIR),target)/static/xt-balance-exporter
