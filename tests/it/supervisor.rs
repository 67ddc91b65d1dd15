//! What a service manager hears of the daemon, on a real socket. That a dead poller silences the
//! watchdog is in `panics.rs`.

use crate::common::messages;
use crate::common::notify_socket::Ear;
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, get};

fn supervised(exchange: &Exchange, notify: &str, watchdog_usec: &str) -> Exporter {
    let url = exchange.url();
    let args = ["--web.listen-address=127.0.0.1:0", "--poll.timeout=900ms", "--poll.interval=1s"];
    let args = [&args[..], &["--xt.base-url", &url]].concat();
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let manager = [("NOTIFY_SOCKET", notify), ("WATCHDOG_USEC", watchdog_usec)];
    Exporter::start(&args, &[keys, manager].concat())
}

#[test]
fn a_service_manager_hears_that_it_is_ready_how_it_stands_that_it_lives_and_that_it_stops() {
    let exchange = Exchange::documented();
    let mut ear = Ear::new();
    let exporter = supervised(&exchange, ear.path.to_str().unwrap(), "300000");

    assert_eq!(ear.until("READY=1"), ["READY=1"], "nothing before it");
    assert_eq!(get(exporter.address(), "/-/healthy", &[]).status, 200);
    ear.until(messages::STATUS_GOOD);
    ear.until("WATCHDOG=1");
    ear.until("WATCHDOG=1");

    exporter.signal("TERM");
    ear.until("STOPPING=1");
    let output = exporter.wait();
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(ear.rest(), [messages::STATUS_ENDING], "and nothing after that");
}

#[test]
fn a_service_manager_without_a_watchdog_is_sent_no_pings() {
    let exchange = Exchange::documented();
    let mut ear = Ear::new();
    let exporter = supervised(&exchange, ear.path.to_str().unwrap(), "");
    let mut heard = ear.until(messages::STATUS_GOOD);
    exporter.signal("INT");
    heard.extend(ear.until("STOPPING=1"));
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
}

#[test]
fn a_service_manager_that_is_deaf_is_complained_of_and_the_daemon_serves() {
    let exchange = Exchange::documented();
    let exporter = supervised(&exchange, "/nonexistent/notify", "300000");
    exporter.stderr.wait_for(messages::NOT_NOTIFIED);
    exporter.ready();
    assert_eq!(exporter.stderr.text().matches("service manager").count(), 1, "once is enough");
}
