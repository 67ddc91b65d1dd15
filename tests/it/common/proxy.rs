//! A server between the program and the simulated exchange: it passes calls on, or answers them in
//! ways the exchange itself has no reason to, and keeps every request it has seen.

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

/// The server, on a free port of this process until its end.
#[derive(Clone)]
pub struct Front {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    upstream: SocketAddr,
    manner: Manner,
    /// The answers that [`Manner::SharedCache`] repeats, by path.
    cached: BTreeMap<String, Vec<u8>>,
    tls: Option<Arc<ServerConfig>>,
    connections: usize,
    streams: Vec<TcpStream>,
    requests: Vec<Request>,
}

/// What is done with a call for assets or prices; all others are passed on.
#[derive(Clone)]
pub enum Manner {
    /// It is passed on.
    Relay,
    /// It is passed on, and the answer is kept back in favour of this one.
    Instead(Vec<u8>),
    /// It is answered with what this makes of it; with the end of the connection if that is nothing.
    Answer(Answerer),
    /// It is read and never answered.
    Silence,
    /// It is answered with this, and the connection stays open as if more were to come.
    Begin(Vec<u8>),
    /// It is passed on, and the answer gets these headers. A header of the exchange with the same name is replaced.
    AddHeaders(Vec<(&'static str, String)>),
    /// It is passed on, and the same answer is sent again on the same connection after this time. A client that closes
    /// the connection gets no copy; neither does a client on TLS.
    Surplus(Duration),
    /// The first answer of each path is passed on and repeated to every later call, including calls of other accounts.
    SharedCache,
}

/// Makes an answer to a request.
pub type Answerer = Arc<dyn Fn(&Request) -> Vec<u8> + Send + Sync>;

/// The head of a request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
}

impl Request {
    /// Path and query.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a parameter as it was sent.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target().split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of a header as it was sent; `name` in lower case.
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

    /// Whether it asks for more than the time: for assets or prices.
    fn is_for_more_than_the_time(&self) -> bool {
        ["/getBalance", "/getFunds", "/v4/balance", "/balance/list", "/getTickers", "/ticker/price"]
            .iter()
            .any(|name| self.target().contains(name))
    }
}

impl Front {
    /// A server that passes everything on to `upstream`.
    pub fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            upstream,
            manner: Manner::Relay,
            cached: BTreeMap::new(),
            tls: None,
            connections: 0,
            streams: Vec::new(),
            requests: Vec::new(),
        };
        let front = Self { address, state: Arc::new(Mutex::new(state)) };
        let serving = front.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let front = serving.clone();
                thread::spawn(move || front.connection(stream));
            }
        });
        front
    }

    /// A server that nobody should connect to.
    pub fn decoy() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the manner, and empties the shared cache.
    pub fn set(&self, manner: Manner) {
        let mut state = self.state.lock().unwrap();
        state.manner = manner;
        state.cached.clear();
    }

    /// Speaks TLS on new connections; plain HTTP if `None`.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.state.lock().unwrap().tls = tls;
    }

    /// Closes every connection.
    pub fn hang_up(&self) {
        for stream in self.state.lock().unwrap().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What the exchange answers to a request.
    pub fn pass(&self, request: &Request) -> Vec<u8> {
        let upstream = self.state.lock().unwrap().upstream;
        relay(upstream, request, &[]).unwrap()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    fn connection(&self, stream: TcpStream) {
        let tls = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.streams.extend(stream.try_clone());
            state.tls.clone()
        };
        let kept = stream.try_clone();
        // The peer may close the connection at any time.
        let _ = match tls {
            None => self.answer_all(stream, kept.as_ref().ok()),
            Some(tls) => ServerConnection::new(tls)
                .map_err(io::Error::other)
                .and_then(|connection| self.answer_all(StreamOwned::new(connection, stream), None)),
        };
        let _ = kept.map(|stream| stream.shutdown(Shutdown::Both));
    }

    /// `copies` is a second handle on the connection, to send an answer once more.
    fn answer_all(&self, mut stream: impl Read + Write, copies: Option<&TcpStream>) -> io::Result<()> {
        while let Some(head) = head(&mut stream)? {
            if head.starts_with(TLS_HELLO) {
                return stream.write_all(&http(400, &[], b"this is plain HTTP"));
            }
            let request = Request { head };
            let (upstream, manner) = {
                let mut state = self.state.lock().unwrap();
                state.requests.push(request.clone());
                (state.upstream, state.manner.clone())
            };
            let reply = match &manner {
                Manner::Answer(answer) if request.is_for_more_than_the_time() => answer(&request),
                Manner::Instead(reply) if request.is_for_more_than_the_time() => {
                    relay(upstream, &request, &[])?;
                    reply.clone()
                }
                Manner::AddHeaders(headers) if request.is_for_more_than_the_time() => {
                    relay(upstream, &request, headers)?
                }
                Manner::SharedCache if request.is_for_more_than_the_time() => self.first_answer(&request)?,
                Manner::Silence if request.is_for_more_than_the_time() => continue,
                Manner::Begin(part) if request.is_for_more_than_the_time() => {
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
            if let (Manner::Surplus(time), Some(copies)) = (manner, copies)
                && request.is_for_more_than_the_time()
            {
                let mut copies = copies.try_clone()?;
                thread::spawn(move || {
                    thread::sleep(time);
                    copies.write_all(&reply)
                });
            }
        }
        Ok(())
    }

    /// The first answer to a call of this path; asks upstream if no answer is kept yet.
    fn first_answer(&self, request: &Request) -> io::Result<Vec<u8>> {
        let path = request.target().split('?').next().unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        if !state.cached.contains_key(&path) {
            let reply = relay(state.upstream, request, &[])?;
            state.cached.insert(path.clone(), reply);
        }
        Ok(state.cached[&path].clone())
    }
}

/// How TLS begins, and no HTTP does.
const TLS_HELLO: char = '\u{16}';

/// Reads to the end of a request's head; none of the requests here has a body.
fn head(stream: &mut impl Read) -> io::Result<Option<String>> {
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

/// Asks upstream on a connection of its own, and builds a new answer its status, body, `Date` and `Age`.
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
    Ok(http(status, &passed.chain(more).collect::<Vec<_>>(), &raw[split + 4..]))
}

/// A whole HTTP answer.
pub fn http(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}
