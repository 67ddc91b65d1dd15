# What a developer runs. Everything else is plain cargo.

.PHONY: test demo

# Installs what the tests need (see tests/install), then runs them all.
test:
	bash tests/install
	cargo test --locked

demo:
	cargo run --release --locked -- demo
