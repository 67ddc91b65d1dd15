//! The simulated exchange over real sockets, called by a minimal HTTP client.
//!
//! OpenSSL computed the signatures: `printf %s "$query" | openssl dgst -sha256 -hmac mySecretKey`.

mod control;
mod earn;
mod faults;
mod proxy;
mod v1;
mod v4;

use std::{future::pending, io::ErrorKind, net::SocketAddr, sync::mpsc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::yield_now,
};
use xt_balance_exporter::simulator::{
    Effect, Fault, RefusalCause, SimulatedAccount, SimulatedWallet, Simulator, SimulatorConfig,
};

use crate::common::proxy::Proxy;

const NONCE: i64 = 1_562_919_832_183;
const BALANCE: &str = "/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1562919832183\
    &signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
const FUNDS_1: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=1&nonce=1562919832183\
    &signature=3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec";
const FUNDS_2: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=2&nonce=1562919832183\
    &signature=1bec414fc5a93f0a8ea0201fcad0dbc4118486470b8b4f36cc5a499de569c47c";
const FUNDS_3: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=3&nonce=1562919832183\
    &signature=6b2c9344fd902ab9a7ed47ffd59ff4c6c0348a38ae8490413ab9b6a336fc25a3";
const SPOT: &str = r#"{"code":200,"data":{"1inch":{"freeze":"0","available":"150"},"usdt":{"freeze":"3062.17437341","available":"3867.43650012"}},"info":"success"}"#;

/// `Date` at the start of the exchange's clock, in lower case.
const START: &str = "fri, 12 jul 2019 08:23:52 gmt";

/// The clock matches the published signatures, and each signature may be used several times.
fn test_config() -> SimulatorConfig {
    SimulatorConfig { strict_nonce: false, clock_start_ms: Some(NONCE), ..SimulatorConfig::default() }
}

fn test_account() -> SimulatedAccount {
    SimulatedAccount::new("main", "myAccessKey", "mySecretKey")
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341")
        .with_balance(SimulatedWallet::Spot, "1inch", "150", "0")
        .with_balance(SimulatedWallet::Wallet, "btc", "1.5", "0.00")
        .with_balance(SimulatedWallet::Fiat, "usd", "20.00", "0.00")
}

/// An exchange that serves until the test ends.
struct ServedExchange {
    simulator: Simulator,
    address: SocketAddr,
}

impl ServedExchange {
    async fn new(config: SimulatorConfig, account: SimulatedAccount) -> Self {
        Self::with_accounts(config, vec![account]).await
    }

    async fn with_accounts(config: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        let simulator = Simulator::new(config, accounts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = simulator.clone();
        tokio::spawn(async move { served.serve(listener, pending()).await });
        Self { simulator, address }
    }

    async fn documented() -> Self {
        Self::new(test_config(), test_account()).await
    }

    /// The same exchange, called through a proxy.
    fn behind_proxy(self, proxy: &Proxy) -> Self {
        Self { address: proxy.address, ..self }
    }

    /// Sends a request on a new connection.
    async fn send_request(&self, method: &str, target: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer before it has read a body that is too long.
        let _ = stream.write_all(body.as_bytes()).await;
        stream
    }

    async fn request(&self, method: &str, target: &str, body: &str) -> HttpResponse {
        let mut stream = self.send_request(method, target, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        HttpResponse::parse(&bytes)
    }

    async fn get(&self, target: &str) -> HttpResponse {
        self.request("GET", target, "").await
    }

    async fn get_with_fault(&self, effect: Effect) -> HttpResponse {
        self.simulator.inject_fault(Fault::new(effect));
        self.get(BALANCE).await
    }

    fn count_refused(&self, cause: RefusalCause) -> u64 {
        self.simulator.call_log().accounts["main"].count_refused(cause)
    }
}

/// Freezes the clock until it is dropped, even while every task waits for a socket.
struct FrozenClock(#[expect(dead_code, reason = "only its drop has an effect")] mpsc::Sender<()>);

impl FrozenClock {
    fn new() -> Self {
        tokio::time::pause();
        let (held, release) = mpsc::channel();
        // A paused clock advances to the next deadline when no task can run, unless a blocking task is alive.
        tokio::task::spawn_blocking(move || release.recv());
        Self(held)
    }
}

/// A connection that stays open for further calls.
struct KeepAliveConnection(TcpStream);

impl KeepAliveConnection {
    async fn new(exchange: &ServedExchange) -> Self {
        Self(TcpStream::connect(exchange.address).await.unwrap())
    }

    async fn send_get(&mut self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads exactly one response.
    async fn read_response(&mut self) -> HttpResponse {
        let start = std::time::Instant::now(); // the runtime's clock may be frozen
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while !bytes.ends_with(br#""info":"success"}"#) {
            match self.0.try_read(&mut byte) {
                Ok(0) => panic!("the connection ended"),
                Ok(_) => bytes.extend(byte),
                Err(_) => yield_now().await,
            }
            assert!(start.elapsed() < Duration::from_mins(1), "no response");
        }
        HttpResponse::parse(&bytes)
    }

    /// Whether no further bytes have arrived.
    fn is_quiet(&self) -> bool {
        self.0.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

struct HttpResponse {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl HttpResponse {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        Self {
            status: head["http/1.1 ".len()..][..3].parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
