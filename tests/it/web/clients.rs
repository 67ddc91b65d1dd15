//! No client, slow, silent, greedy or garbled, keeps others from an answer or the process from its end.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use super::{
    CONNECTIONS_OF_A_NETWORK, assert_healthy, connect, daemon, daemon_of_many_currencies, read_answer,
    read_to_close, send,
};
use crate::common::{
    ACCESS_KEY, Exchange, Exporter, SECRET_KEY, WAIT_TIMEOUT, answer, get, messages, request, until,
};
use socket2::{Domain, Socket, Type};

#[test]
fn clients_that_never_read_their_balances_do_not_block_others() {
    let (exporter, _exchange) = daemon_of_many_currencies(&["--poll.interval=1h"]);
    let address = exporter.address();
    let slow: Vec<_> = (0..16)
        .map(|_| {
            let mut slow = send(address, b"GET /api/v1/balances HTTP/1.1\r\nHost: localhost\r\n\r\n");
            slow.read_exact(&mut [0]).unwrap();
            slow
        })
        .collect();
    for path in ["/metrics", "/", "/api/v1/balances", "/-/healthy"] {
        assert_eq!(get(address, path, &[]).status, 200, "{path}");
        assert_eq!(request("HEAD", address, path, &[]).status, 200, "{path}");
    }
    drop(slow);
    assert_healthy(address);
}

#[test]
fn clients_that_send_no_request_or_take_no_answer_are_disconnected() {
    let (exporter, _exchange) = daemon_of_many_currencies(&["--web.max-requests=1"]);
    let address = exporter.address();
    let silent = [&b""[..], b"G", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half: "];
    let waiting: Vec<_> = silent.into_iter().map(|bytes| send(address, bytes)).collect();
    let mut never_reads = send(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut raw = vec![0; 4096];
    never_reads.read_exact(&mut raw).unwrap();
    let drips = send(address, b"GET /metrics HTTP/1.1\r\n");
    thread::scope(|scope| {
        for mut stream in waiting {
            scope.spawn(move || {
                let response = String::from_utf8(read_to_close(&mut stream)).unwrap();
                assert!(response.is_empty() || response.starts_with("HTTP/1.1 408 "), "{response}");
            });
        }
        // A byte now and then is no request either.
        scope.spawn(|| {
            let mut drips = &drips;
            until("the dripping client is cut off", || {
                thread::sleep(std::time::Duration::from_millis(200));
                drips.write_all(b"x").is_err().then_some(())
            });
        });
        // It holds the only scrape there is until it is cut off.
        until("others are answered again", || (get(address, "/metrics", &[]).status == 200).then_some(()));
    });
    raw.extend(read_to_close(&mut never_reads));
    let cut = answer(&raw);
    assert!(cut.body.len() < cut.header("content-length").unwrap().parse().unwrap(), "it got all");
    assert_healthy(address);
}

/// A connection from an address of this machine's own.
fn connect_from(host: u8, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

const HEALTHY: &[u8] = b"HEAD /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_oldest_idle_connection_of_a_network_makes_room_for_its_next() {
    let (exporter, _exchange) = daemon(&[]);
    let address = exporter.address();
    let mut other = connect_from(2, address);
    other.write_all(HEALTHY).unwrap();
    assert_eq!(head(&mut other), 200);
    let mut open: Vec<_> = (0..=CONNECTIONS_OF_A_NETWORK)
        .map(|_| {
            let mut stream = send(address, HEALTHY);
            assert_eq!(head(&mut stream), 200);
            stream
        })
        .collect();
    assert_eq!(read_to_close(&mut open[0]), b"", "the first was closed");
    for stream in [&mut other, &mut open[1]] {
        stream.write_all(HEALTHY).unwrap();
        assert_eq!(head(stream), 200, "it is kept");
    }
}

/// The status of an answer without a body.
fn head(stream: &mut TcpStream) -> u16 {
    let mut raw = Vec::new();
    let mut byte = [0];
    while !raw.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        raw.push(byte[0]);
    }
    answer(&raw).status
}

#[test]
fn a_network_with_all_its_connections_busy_gets_an_error_and_others_get_answers() {
    let (exporter, _exchange) = daemon_of_many_currencies(&["--poll.interval=1h"]);
    let address = exporter.address();
    // Many ask at once, so that the server has not yet cut the first off when the last one is served; but fewer than may
    // wait for balances.
    let request = b"GET /api/v1/balances HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut batch: Vec<_> = (0..CONNECTIONS_OF_A_NETWORK / 4).map(|_| send(address, request)).collect();
        for client in &mut batch {
            client.read_exact(&mut [0]).unwrap();
        }
        slow.append(&mut batch);
    }
    let mut refused = connect(address);
    let refused = answer(&read_to_close(&mut refused));
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert_eq!(refused.text(), "too many connections: try again later");
    assert_eq!(refused.header("content-length"), Some(&*refused.body.len().to_string()));
    let mut other = connect_from(2, address);
    other.write_all(HEALTHY).unwrap();
    assert_eq!(head(&mut other), 200);
    drop(slow);
}

#[test]
fn clients_cannot_take_the_descriptors_of_polls() {
    let exchange = Exchange::documented();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", crate::common::PROGRAM]);
    let url = exchange.url();
    let args = [
        "--web.listen-address=127.0.0.1:0",
        "--xt.base-url",
        &url,
        "--poll.interval=1s",
        "--poll.timeout=900ms",
    ];
    let exporter =
        Exporter::start_by(limited, &args, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)]);
    let address = exporter.address();
    assert!(exporter.stderr.wait_for(messages::FEW_FILES).contains("64"));
    exporter.ready();
    let mut idle: Vec<_> = (1..250).map(|host| connect_from(host, address)).collect();
    let polls = || exporter.sample("xt_polls_total{account=\"main\",wallet=\"spot\"}").unwrap();
    let before = polls();
    until("more polls have ended", || {
        idle.push(connect_from(250, address));
        (polls() >= before + 4.0).then_some(())
    });
    let up = exporter.sample("xt_up{account=\"main\",wallet=\"spot\"}");
    assert_eq!(up, Some(1.0));
    let failures = exporter.metrics();
    let failures = failures.lines().filter(|line| line.starts_with("xt_poll_failures_total{"));
    assert!(
        failures.clone().count() > 0 && failures.clone().all(|line| line.ends_with(" 0")),
        "{failures:?}"
    );
}

#[test]
fn a_malformed_request_is_refused_and_affects_no_other_client() {
    let (exporter, _exchange) = daemon(&[]);
    let address = exporter.address();
    let large =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Y: z\r\n".repeat(2000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(64 * 1024));
    for garbage in [
        large.as_bytes(),
        many.as_bytes(),
        long.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = connect(address);
        // It may have closed before all of it is sent.
        let _ = stream.write_all(garbage);
        let response = read_to_close(&mut stream);
        let request_start = String::from_utf8_lossy(&garbage[..garbage.len().min(40)]).into_owned();
        assert!(
            response.is_empty() || response.starts_with(b"HTTP/1.1 4"),
            "{request_start}: {}",
            String::from_utf8_lossy(&response)
        );
        assert_healthy(address);
    }
    // Nor is a body that nobody asked for waited for.
    let mut posts =
        send(address, b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc");
    assert_eq!(read_answer(&mut posts).status, 405);
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_its_answer() {
    let (exporter, _exchange) = daemon(&[]);
    // Both may arrive at once or one after the other: often enough for either to happen.
    for _ in 0..200 {
        let mut half = send(exporter.address(), b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
        half.shutdown(Shutdown::Write).unwrap();
        assert_eq!(answer(&read_to_close(&mut half)).status, 200);
    }
}

#[test]
fn a_running_answer_is_finished_before_the_process_ends() {
    let (exporter, _exchange) = daemon_of_many_currencies(&[]);
    let address = exporter.address();
    let mut running = send(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut idle = send(address, b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut idle).status, 200);
    let mut first = [0; 12];
    running.read_exact(&mut first).unwrap();
    exporter.signal("TERM");
    until("new connections are refused", || TcpStream::connect(address).is_err().then_some(()));
    let all = [first.to_vec(), read_to_close(&mut running)].concat();
    let answer = answer(&all);
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "nothing is missing");
    assert!(answer.body.ends_with(b"\n"));
    assert_eq!(read_to_close(&mut idle), b"", "an idle connection is closed");
    let output = exporter.wait();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(!output.stderr.contains(messages::CUT_OFF), "{}", output.stderr);
}

#[test]
fn no_client_prevents_the_shutdown() {
    let (exporter, _exchange) = daemon_of_many_currencies(&[]);
    let address = exporter.address();
    let mut never_reads = send(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    never_reads.read_exact(&mut [0]).unwrap();
    let half_a_header = send(address, b"GET /metrics HTTP/1.1\r\nHost: ");
    let silent = connect(address);
    assert_healthy(address);
    exporter.signal("TERM");
    let output = exporter.wait();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(output.stderr.contains(messages::CUT_OFF), "{}", output.stderr);
    drop((never_reads, half_a_header, silent));
}
