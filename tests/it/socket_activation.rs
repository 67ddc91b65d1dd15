//! `--web.systemd-socket`: a restart refuses no scrape, because the socket stays open, and sockets that cannot be used are
//! an error. The test holds the socket as systemd does; `systemd.rs` has the real one.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY, get, golden::Transcript, messages};

const KEYS: [(&str, &str); 2] = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];

fn start(socket: impl Into<OwnedFd>, url: &str) -> Exporter {
    let args = ["--web.systemd-socket", "--web.listen-address=127.0.0.1:1", "--xt.base-url", url];
    Exporter::start_with_socket(socket.into(), &args, &KEYS)
}

#[test]
fn a_restart_refuses_no_scrape_of_a_client_that_asks_ten_times_a_second() {
    const RESTARTS: usize = 5;
    // Together they ask all the time, so that some connect just when a process ends.
    const CLIENTS: usize = 10;
    let exchange = Exchange::documented();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let is_over = AtomicBool::new(false);
    let scrape = |client: usize| {
        let mut scrapes = 0;
        while !is_over.load(Ordering::Relaxed) {
            let answer = get(address, "/metrics", &[]);
            assert_eq!(answer.status, 200, "client {client}, scrape {scrapes}: {}", answer.text());
            assert!(answer.body.ends_with(b"\n"), "client {client}, scrape {scrapes} is whole");
            scrapes += 1;
            if client == 0 {
                thread::sleep(Duration::from_millis(100));
            }
        }
        scrapes
    };
    let scrapes = thread::scope(|scope| {
        let scrape = &scrape;
        let scrapers: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || scrape(client))).collect();
        for _ in 0..RESTARTS {
            let exporter = start(socket.try_clone().unwrap(), &exchange.url());
            assert_eq!(exporter.address(), address, "and not the address of the flag");
            exporter.ready();
            exporter.signal("TERM");
            let output = exporter.wait();
            assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
            assert!(!output.stderr.contains(messages::CUT_OFF), "{}", output.stderr);
        }
        // The last process answers the scrape that waits.
        let _exporter = start(socket.try_clone().unwrap(), &exchange.url());
        is_over.store(true, Ordering::Relaxed);
        scrapers.into_iter().map(|scraper| scraper.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(scrapes.iter().all(|scrapes| *scrapes >= RESTARTS), "{scrapes:?}");
}

#[test]
fn sockets_that_cannot_be_used_are_an_error_with_the_fix() {
    let mut transcript = Transcript::default();
    let mut add = |case: &str, output: &Output| {
        assert_eq!(output.status.code(), Some(1), "{case}: {}", output.stderr);
        let line = output.stderr.lines().find_map(|line| line.split("msg=").nth(1));
        transcript.add(case, line.unwrap_or_else(|| panic!("{case}: {}", output.stderr)));
    };
    let none = Exporter::start(&["--web.systemd-socket"], &KEYS);
    add("no socket", &none.wait());
    let folder = tempfile::tempdir().unwrap();
    let local = UnixListener::bind(folder.path().join("socket")).unwrap();
    add("ListenStream=/run/socket", &start(local, "http://127.0.0.1:1").wait());
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    add("ListenDatagram=127.0.0.1:0", &start(datagram, "http://127.0.0.1:1").wait());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    add("Accept=yes", &start(listener.accept().unwrap().0, "http://127.0.0.1:1").wait());
    transcript.assert("systemd_socket");
}
