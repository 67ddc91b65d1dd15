//! A proxy between the program and the simulated exchange. It forwards calls or answers them itself, in ways that the
//! exchange does not, and it records every request.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The headers of a request without a key in its headers, sorted.
pub const PLAIN_HEADERS: [&str; 7] =
    ["accept", "accept-encoding", "cache-control", "connection", "content-type", "host", "user-agent"];

/// A proxy on a free port of this process. It serves until the process ends.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    upstream: SocketAddr,
    mode: ProxyMode,
    /// The responses that [`ProxyMode::SharedCache`] repeats, by path.
    cached: BTreeMap<String, Vec<u8>>,
    tls: Option<Arc<ServerConfig>>,
    connections: usize,
    streams: Vec<TcpStream>,
    requests: Vec<Request>,
}

/// How the proxy handles calls for assets or prices. It forwards all others.
#[derive(Clone)]
pub enum ProxyMode {
    /// Forwards the call.
    Relay,
    /// Forwards the call, and sends this response in place of the exchange's.
    ReplaceResponse(Vec<u8>),
    /// Sends the response that this function makes; closes the connection if the response is empty.
    Respond(Responder),
    /// Reads the call and never answers.
    NoResponse,
    /// Sends this part of a response, and leaves the connection open.
    PartialResponse(Vec<u8>),
    /// Forwards the call, and adds these headers to the response. They replace the exchange's headers of the same name.
    AddHeaders(Vec<(&'static str, String)>),
    /// Forwards the call, and sends the response again on the same connection after this time. A client that closes the
    /// connection gets no copy; neither does a client on TLS.
    RepeatResponse(Duration),
    /// Forwards the first call of each path, and repeats its response to every later call, of other accounts too.
    SharedCache,
}

/// Makes a response to a request.
pub type Responder = Arc<dyn Fn(&Request) -> Vec<u8> + Send + Sync>;

/// The head of a received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
}

impl Request {
    /// Path and query.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a parameter, still percent-encoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target().split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of a header. `name` is in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Whether the client closes the connection after this request.
    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.trim().eq_ignore_ascii_case("close"))
    }

    /// Names of the headers in lower case.
    pub fn header_names(&self) -> Vec<String> {
        let names = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.to_lowercase()).collect()
    }

    /// Whether it asks for assets or prices.
    fn is_asset_or_price_call(&self) -> bool {
        ["/getBalance", "/getFunds", "/v4/balance", "/balance/list", "/getTickers", "/ticker/price"]
            .iter()
            .any(|name| self.target().contains(name))
    }
}

impl Proxy {
    /// A proxy that forwards everything to `upstream`.
    pub fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            upstream,
            mode: ProxyMode::Relay,
            cached: BTreeMap::new(),
            tls: None,
            connections: 0,
            streams: Vec::new(),
            requests: Vec::new(),
        };
        let proxy = Self { address, state: Arc::new(Mutex::new(state)) };
        let server = proxy.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let proxy = server.clone();
                thread::spawn(move || proxy.serve_connection(stream));
            }
        });
        proxy
    }

    /// A server that no client should connect to.
    pub fn decoy() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the mode, and empties the shared cache.
    pub fn set_mode(&self, mode: ProxyMode) {
        let mut state = self.state.lock().unwrap();
        state.mode = mode;
        state.cached.clear();
    }

    /// Uses TLS on new connections; plain HTTP if `None`.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.state.lock().unwrap().tls = tls;
    }

    /// Closes every connection.
    pub fn close_connections(&self) {
        for stream in self.state.lock().unwrap().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the exchange's response to a request.
    pub fn forward(&self, request: &Request) -> Vec<u8> {
        let upstream = self.state.lock().unwrap().upstream;
        relay(upstream, request, &[]).unwrap()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    fn serve_connection(&self, stream: TcpStream) {
        let tls = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.streams.extend(stream.try_clone());
            state.tls.clone()
        };
        let duplicate = stream.try_clone();
        // The peer may close the connection at any time.
        let _ = match tls {
            None => self.serve_requests(stream, duplicate.as_ref().ok()),
            Some(tls) => ServerConnection::new(tls)
                .map_err(io::Error::other)
                .and_then(|connection| self.serve_requests(StreamOwned::new(connection, stream), None)),
        };
        let _ = duplicate.map(|stream| stream.shutdown(Shutdown::Both));
    }

    /// `duplicate` is a second handle on the connection, for [`ProxyMode::RepeatResponse`].
    fn serve_requests(&self, mut stream: impl Read + Write, duplicate: Option<&TcpStream>) -> io::Result<()> {
        while let Some(head) = read_head(&mut stream)? {
            if head.starts_with(TLS_HELLO) {
                return stream.write_all(&http_response(400, &[], b"this is plain HTTP"));
            }
            let request = Request { head };
            let (upstream, mode) = {
                let mut state = self.state.lock().unwrap();
                state.requests.push(request.clone());
                (state.upstream, state.mode.clone())
            };
            let reply = match &mode {
                ProxyMode::Respond(answer) if request.is_asset_or_price_call() => answer(&request),
                ProxyMode::ReplaceResponse(reply) if request.is_asset_or_price_call() => {
                    relay(upstream, &request, &[])?;
                    reply.clone()
                }
                ProxyMode::AddHeaders(headers) if request.is_asset_or_price_call() => {
                    relay(upstream, &request, headers)?
                }
                ProxyMode::SharedCache if request.is_asset_or_price_call() => {
                    self.cached_response(&request)?
                }
                ProxyMode::NoResponse if request.is_asset_or_price_call() => continue,
                ProxyMode::PartialResponse(part) if request.is_asset_or_price_call() => {
                    stream.write_all(part)?;
                    stream.flush()?;
                    continue;
                }
                _ => relay(upstream, &request, &[])?,
            };
            if reply.is_empty() {
                return Ok(());
            }
            stream.write_all(&reply)?;
            stream.flush()?;
            if request.closes() {
                return Ok(());
            }
            if let (ProxyMode::RepeatResponse(time), Some(duplicate)) = (mode, duplicate)
                && request.is_asset_or_price_call()
            {
                let mut duplicate = duplicate.try_clone()?;
                thread::spawn(move || {
                    thread::sleep(time);
                    duplicate.write_all(&reply)
                });
            }
        }
        Ok(())
    }

    /// The cached response of this path. Forwards the request on the first call.
    fn cached_response(&self, request: &Request) -> io::Result<Vec<u8>> {
        let path = request.target().split('?').next().unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        if !state.cached.contains_key(&path) {
            let reply = relay(state.upstream, request, &[])?;
            state.cached.insert(path.clone(), reply);
        }
        Ok(state.cached[&path].clone())
    }
}

/// The first byte of TLS. HTTP never begins with it.
const TLS_HELLO: char = '\u{16}';

/// Reads the head of a request. No request here has a body.
fn read_head(stream: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
        if byte[0] == TLS_HELLO as u8 {
            break;
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// Forwards a request on a new connection, and builds a response from the status, body, `Date` and `Age` of the reply.
/// The headers in `more` are added; they replace a `Date` or `Age` of the exchange.
fn relay(upstream: SocketAddr, request: &Request, more: &[(&'static str, String)]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream)?;
    let signed = request.head.lines().filter(|line| line.to_lowercase().starts_with("validate-"));
    let signed: String = signed.flat_map(|line| [line, "\r\n"]).collect();
    write!(stream, "GET {} HTTP/1.1\r\nHost: x\r\n{signed}Connection: close\r\n\r\n", request.target())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let split = raw.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&raw[..split]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(502);
    let is_replaced = |name: &str| more.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let passed = head.lines().filter_map(|line| line.split_once(": "));
    let passed = passed.filter(|(name, _)| {
        ["date", "age"].iter().any(|known| name.eq_ignore_ascii_case(known)) && !is_replaced(name)
    });
    let more = more.iter().map(|(name, value)| (*name, value.as_str()));
    Ok(http_response(status, &passed.chain(more).collect::<Vec<_>>(), &raw[split + 4..]))
}

/// Formats a whole HTTP response.
pub fn http_response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}
