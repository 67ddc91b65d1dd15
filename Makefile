# What a developer runs. Everything else is plain cargo.

.PHONY: test drill bench demo

# Installs what the tests need (see tests/install), then runs them all.
test:
	bash tests/install
	cargo test --locked

# The alerts, run whole: what pages, and after how long.
drill:
	bash tests/install
	cargo test --locked --test drill -- --nocapture each_trouble

# What a scrape costs here and elsewhere; wants a machine that does nothing else.
bench:
	python3 benches/compare.py

demo:
	cargo run --release --locked -- demo
