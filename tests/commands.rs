//! Every command of the program, run as a user runs it.

mod common;

use common::{Exchange, Exporter, until};

#[test]
fn serve_shows_what_the_exchange_holds_to_the_last_digit() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    exporter.stderr.wait_for("the first poll was good");
    let metrics = exporter.metrics();
    let line = |name: &str, value: &str| {
        let line = format!("{name}{{account=\"main\",currency=\"usdt\",wallet=\"spot\"}} {value}\n");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    };
    line("xt_balance_free", "3867.43650012");
    line("xt_balance_frozen", "3062.17437341");
}

#[test]
fn serve_ends_well_when_told_to() {
    for signal in ["TERM", "INT"] {
        let exchange = Exchange::documented();
        let exporter = Exporter::serve(&exchange.url(), &[]);
        until("it is ready", || (exporter.get("/-/ready").status == 200).then_some(()));
        exporter.signal(signal);
        let output = exporter.wait();
        assert_eq!(output.status.code(), Some(0), "{signal}: {}", output.stderr);
    }
}
