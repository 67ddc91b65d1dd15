//! A proxy that opens tunnels with CONNECT, whatever the name that a client asks for, and keeps the head of every request.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// The proxy, on a free port of this process until its end.
#[derive(Clone)]
pub struct ConnectProxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    upstream: SocketAddr,
    behaviour: Behaviour,
    heads: Vec<String>,
}

/// The answer to CONNECT.
#[derive(Clone)]
pub enum Behaviour {
    /// Opens a tunnel to the upstream.
    Tunnel,
    /// Opens a tunnel for this `user:password`, and answers 407 otherwise.
    RequireLogin(&'static str),
    /// The same, but answers 407 after this time.
    SlowlyRequireLogin(&'static str, Duration),
    /// Answers this and closes the connection; only closes it if this is empty.
    Reply(&'static str),
    /// Never answers.
    Silence,
}

impl ConnectProxy {
    /// A proxy whose tunnels end at `upstream`.
    pub fn new(upstream: SocketAddr) -> Self {
        Self::with_tls(upstream, None)
    }

    /// The same, with TLS between client and proxy.
    pub fn with_tls(upstream: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = State { upstream, behaviour: Behaviour::Tunnel, heads: Vec::new() };
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let serving = proxy.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serving.accept(listener, tls.map(TlsAcceptor::from)));
        });
        proxy
    }

    pub fn set(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of each request so far.
    pub fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }

    async fn accept(self, listener: std::net::TcpListener, tls: Option<TlsAcceptor>) {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let (proxy, tls) = (self.clone(), tls.clone());
            // The client may close the connection at any time.
            tokio::spawn(async move {
                match tls {
                    Some(tls) => proxy.answer(tls.accept(stream).await?).await,
                    None => proxy.answer(stream).await,
                }
            });
        }
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let (upstream, behaviour) = {
            let mut state = self.state.lock().unwrap();
            state.heads.push(head.clone());
            (state.upstream, state.behaviour.clone())
        };
        if let Behaviour::SlowlyRequireLogin(_, time) = behaviour {
            tokio::time::sleep(time).await;
        }
        match behaviour {
            Behaviour::RequireLogin(login) | Behaviour::SlowlyRequireLogin(login, _)
                if !head.contains(&proxy_authorization(login)) =>
            {
                let reply =
                    "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(reply.as_bytes()).await
            }
            Behaviour::Tunnel | Behaviour::RequireLogin(_) | Behaviour::SlowlyRequireLogin(..) => {
                let mut upstream = TcpStream::connect(upstream).await?;
                stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").await?;
                copy_bidirectional(&mut stream, &mut upstream).await.map(drop)
            }
            Behaviour::Reply(reply) => stream.write_all(reply.as_bytes()).await,
            Behaviour::Silence => std::future::pending().await,
        }
    }
}

/// The value of the header `Proxy-Authorization` for `user:password`.
pub fn proxy_authorization(login: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}
