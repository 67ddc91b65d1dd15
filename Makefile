# What a developer runs. Everything else is plain cargo.

.PHONY: test drill demo

# Installs what the tests need (see tests/install), then runs them all.
test:
	bash tests/install
	cargo test --locked

# The alerts, run whole: what pages, and after how long.
drill:
	bash tests/install
	cargo test --locked --test drill -- --nocapture each_trouble

demo:
	cargo run --release --locked -- demo
