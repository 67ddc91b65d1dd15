//! Names and addresses of the exchange: addresses that are silent, names that move, and look-ups that the machine has no
//! thread for. Real sockets and the system's resolver, with a hosts file of the test's own. Needs root.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::common::proxy::Proxy;
use crate::common::{ACCESS_KEY, Exchange, Exporter, PROGRAM, SECRET_KEY, authority::Authority, until};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use xt_balance_exporter::simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig};

const NAME: &str = "exchange.test";
const UP: &str = "xt_up{account=\"main\",wallet=\"spot\"}";
const POLLS: &str = "xt_polls_total{account=\"main\",wallet=\"spot\"}";
const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";

fn failures(reason: &str) -> String {
    format!("xt_poll_failures_total{{account=\"main\",reason=\"{reason}\",wallet=\"spot\"}}")
}

/// An exchange behind TLS that has `free` USDT.
struct Host {
    _exchange: Exchange,
    proxy: Proxy,
}

impl Host {
    fn new(authority: &Authority, free: &str) -> Self {
        let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY).with_balance(
            SimulatedWallet::Spot,
            "usdt",
            free,
            "0",
        );
        let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
        let proxy = Proxy::new(exchange.address);
        let (certificate, key) = authority.certified(&[NAME]);
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        proxy.set_tls(Some(Arc::new(config.with_single_cert(vec![certificate], key).unwrap())));
        Self { _exchange: exchange, proxy }
    }

    /// Can be reached at `address` too.
    fn listen(&self, address: SocketAddr) {
        let (listener, proxy) = (TcpListener::bind(address).unwrap(), self.proxy.address);
        thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(proxy) else { continue };
                for (mut from, mut to) in
                    [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)]
                {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
    }
}

/// An address that neither accepts nor refuses connections, because its queue is full.
struct SilentListener {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl SilentListener {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => waiting.push(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => panic!("{error}"),
            }
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// A user for a test alone, or the threads of another would count for it.
fn user(port: u16) -> u32 {
    60_000 + u32::from(port) % 5_000
}

/// An environment whose hosts file maps [`NAME`] to an address.
struct HostsFileMachine {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl HostsFileMachine {
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("trusted"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        // A user who is not root may not come by the place of the original.
        fs::copy(PROGRAM, folder.path().join("program")).unwrap();
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Written in place: the file is mounted over another.
    fn resolve(&self, addresses: &[IpAddr]) {
        let lines = addresses.iter().map(|address| format!("{address} {NAME}\n"));
        fs::write(self.path("hosts"), lines.collect::<String>()).unwrap();
    }

    /// Starts the exporter, as a user of its own who may have so many threads.
    fn start(&self, port: u16, threads: u32, more: &[&str]) -> Exporter {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c"]);
        let user = user(port);
        command.arg(format!(
            "mount --bind {} /etc/hosts && exec setpriv --reuid={user} --regid={user} --clear-groups \
             prlimit --nproc={threads}:1000 {} \"$@\"",
            self.path("hosts").display(),
            self.path("program").display(),
        ));
        let url = format!("--xt.base-url=https://{NAME}:{port}");
        let args = [&["sh", "--web.listen-address=127.0.0.1:0", &url], more].concat();
        let roots = self.path("ca.pem");
        let path = std::env::var("PATH").unwrap();
        let env = [
            ("PATH", &*path),
            ("XT_ACCESS_KEY", ACCESS_KEY),
            ("XT_SECRET_KEY", SECRET_KEY),
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
        ];
        Exporter::start_by(command, &args, &env)
    }
}

const SECOND_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const THIRD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));
const FAST_POLLS: [&str; 2] = ["--poll.interval=1s", "--poll.timeout=900ms"];

#[test]
fn a_silent_first_address_leaves_time_for_the_second() {
    let machine = HostsFileMachine::new();
    let (listener, host) = (SilentListener::new(), Host::new(&machine.authority, "7"));
    host.listen(SocketAddr::new(SECOND_ADDRESS, listener.address.port()));
    machine.resolve(&[listener.address.ip(), SECOND_ADDRESS]);
    let exporter =
        machine.start(listener.address.port(), 100, &["--poll.interval=20s", "--poll.timeout=10s"]);
    exporter.ready();
    assert_eq!((exporter.sample(UP), exporter.sample(FREE)), (Some(1.0), Some(7.0)));
}

#[test]
fn a_host_that_is_silent_at_every_address_is_a_timeout() {
    let machine = HostsFileMachine::new();
    let listener = SilentListener::new();
    machine.resolve(&[listener.address.ip()]);
    let exporter = machine.start(listener.address.port(), 100, &FAST_POLLS);
    exporter.ready();
    assert_eq!(exporter.sample(&failures("timeout")), exporter.sample(POLLS));
}

#[test]
fn a_name_that_moves_is_followed_at_the_next_poll() {
    let machine = HostsFileMachine::new();
    let (before, after) = (Host::new(&machine.authority, "7"), Host::new(&machine.authority, "8"));
    let port = before.proxy.address.port();
    before.listen(SocketAddr::new(SECOND_ADDRESS, port));
    after.listen(SocketAddr::new(THIRD_ADDRESS, port));
    machine.resolve(&[SECOND_ADDRESS]);
    let exporter = machine.start(port, 100, &FAST_POLLS);
    exporter.ready();
    assert_eq!(exporter.sample(FREE), Some(7.0));
    machine.resolve(&[THIRD_ADDRESS]);
    until("the new address is asked", || (exporter.sample(FREE) == Some(8.0)).then_some(()));
    assert_eq!(exporter.sample(UP), Some(1.0));
}

#[test]
fn without_a_thread_for_a_look_up_polls_fail_as_dns_and_are_good_once_there_is_one() {
    let machine = HostsFileMachine::new();
    let host = Host::new(&machine.authority, "7");
    let port = host.proxy.address.port();
    host.listen(SocketAddr::new(SECOND_ADDRESS, port));
    machine.resolve(&[SECOND_ADDRESS]);
    let exporter = machine.start(port, 100, &FAST_POLLS);
    exporter.ready();
    let limit = |threads: u32| {
        let mut limit = Command::new("setpriv");
        let user = user(port);
        limit.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
        limit.args(["prlimit", "--pid"]);
        limit.arg(exporter.pid().to_string()).arg(format!("--nproc={threads}:1000"));
        assert!(limit.status().unwrap().success());
    };
    // All threads that last are there by now, and there may be no other.
    limit(1);
    until("a look-up fails", || exporter.sample(&failures("dns")).filter(|failed| *failed >= 2.0));
    assert_eq!(exporter.sample(UP), Some(0.0));
    assert_eq!(exporter.get("/-/healthy").status, 200, "the poller lives");
    limit(100);
    until("polls are good again", || (exporter.sample(UP) == Some(1.0)).then_some(()));
    assert_eq!(exporter.sample("xt_poller_restarts_total{account=\"main\"}"), Some(0.0));
}

#[test]
fn a_start_without_enough_threads_ends_with_an_error() {
    let machine = HostsFileMachine::new();
    machine.resolve(&[SECOND_ADDRESS]);
    for threads in 1..6 {
        let output = machine.start(40_000 + u16::try_from(threads).unwrap(), threads, &FAST_POLLS).wait();
        assert!(!output.status.success(), "{threads} threads: {}", output.stderr);
        assert!(!output.stderr.is_empty(), "{threads} threads");
    }
}
