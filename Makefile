# The commands of a developer. For everything else, use cargo.

.PHONY: check test drill bench demo rules static dist

# Most integration tests wait for timers, sockets and processes, so they run several per core.
TEST_THREADS = $(shell expr 4 \* $$(nproc))

# Tests that need other tools than cargo, root or more than a minute. `make test` runs them.
SLOW = alert_e2e:: alerts:: ccxt:: dashboard_ deployment:: gzip::chromium image:: mixin:: network:: packages:: prometheus:: release:: secrets:: standby:: status_page:: \
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

# Writes copies of the alerting rules with your names into OUTPUT. deploy/README.md explains each variable, for example:
#   make rules RUNBOOKS=https://wiki.example.com/xt JOB=xt TEAMS=team SEVERITIES="critical=page info=note" FLAVOUR=vmalert
OUTPUT = rules
rules:
	python3 deploy/prometheus/write_rules.py --output '$(OUTPUT)' $(if $(RUNBOOKS),--runbooks '$(RUNBOOKS)') \
		$(if $(DASHBOARDS),--dashboards '$(DASHBOARDS)') $(if $(JOB),--job '$(JOB)') $(if $(TEAMS),--team-label '$(TEAMS)') \
		$(SEVERITIES:%=--severity %) $(if $(FLAVOUR),--flavour '$(FLAVOUR)')

TARGET_DIR = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Builds one static program for an empty container image and for releases: target/static/xt-balance-exporter.
# --target keeps RUSTFLAGS away from build scripts and macros. The same commit gives the same program in every folder,
# because no path of this machine stays in it.
static: export RUSTFLAGS = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/source \
	--remap-path-prefix=$(TARGET_DIR)=/target --remap-path-prefix=$(RUST_SOURCE)=/rustc/$(RUST_COMMIT)
# If the source of Rust's standard library is installed, its paths are in the program. Without it they begin like this.
static: RUST_SOURCE = $(realpath $(shell rustc --print sysroot))/lib/rustlib/src/rust
static: RUST_COMMIT = $(shell rustc --version --verbose | sed -n 's/^commit-hash: //p')
static: TARGET = $(shell rustc --print host-tuple)
static:
	cargo build --release --locked --target $(TARGET)
	install -D $(TARGET_DIR)/$(TARGET)/release/xt-balance-exporter $(TARGET_DIR)/static/xt-balance-exporter

# Packs a release into dist/: tarball, Debian package, bill of materials, SHA256SUMS.
dist: static
	packaging/dist $(TARGET_DIR)/static/xt-balance-exporter dist
