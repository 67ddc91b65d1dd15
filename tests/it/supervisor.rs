//! The messages of the daemon to a service manager, on a real socket. `panics.rs` tests that a dead poller stops the
//! watchdog messages.

use crate::common::messages;
use crate::common::notify_socket::NotifySocket;
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, get};

fn start_supervised(exchange: &Exchange, notify: &str, watchdog_usec: &str) -> Exporter {
    let url = exchange.url();
    let args = ["--web.listen-address=127.0.0.1:0", "--poll.timeout=900ms", "--poll.interval=1s"];
    let args = [&args[..], &["--xt.base-url", &url]].concat();
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let manager = [("NOTIFY_SOCKET", notify), ("WATCHDOG_USEC", watchdog_usec)];
    Exporter::start(&args, &[keys, manager].concat())
}

#[test]
fn the_service_manager_receives_ready_status_watchdog_and_stopping() {
    let exchange = Exchange::documented();
    let mut notify_socket = NotifySocket::new();
    let exporter = start_supervised(&exchange, notify_socket.path.to_str().unwrap(), "300000");

    assert_eq!(notify_socket.wait_for("READY=1"), ["READY=1"], "nothing before it");
    assert_eq!(get(exporter.address(), "/-/healthy", &[]).status, 200);
    notify_socket.wait_for(messages::STATUS_GOOD);
    notify_socket.wait_for("WATCHDOG=1");
    notify_socket.wait_for("WATCHDOG=1");

    exporter.signal("TERM");
    notify_socket.wait_for("STOPPING=1");
    let output = exporter.wait();
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(notify_socket.take_rest(), [messages::STATUS_ENDING], "and nothing after that");
}

#[test]
fn a_service_manager_without_a_watchdog_is_sent_no_pings() {
    let exchange = Exchange::documented();
    let mut notify_socket = NotifySocket::new();
    let exporter = start_supervised(&exchange, notify_socket.path.to_str().unwrap(), "");
    let mut received = notify_socket.wait_for(messages::STATUS_GOOD);
    exporter.signal("INT");
    received.extend(notify_socket.wait_for("STOPPING=1"));
    assert!(!received.contains(&"WATCHDOG=1".to_owned()), "{received:?}");
}

#[test]
fn if_the_service_manager_cannot_be_notified_the_daemon_warns_and_serves() {
    let exchange = Exchange::documented();
    let exporter = start_supervised(&exchange, "/nonexistent/notify", "300000");
    exporter.stderr.wait_for(messages::NOT_NOTIFIED);
    exporter.ready();
    assert_eq!(exporter.stderr.text().matches("service manager").count(), 1, "once is enough");
}
