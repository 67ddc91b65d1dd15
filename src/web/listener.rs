//! Connections: how many, how long they may dawdle, and how they end. Knows no route.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{
    body::{ResponseBody, raw_response},
    config_watcher::WebConfigWatcher,
    connections::Connections,
    routes::CloseConnection,
    tls::ClientTrust,
};

/// A new connection must have ended its handshake, if there is one, within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// It must have sent its first request's header within this time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A later one may take longer: this is also how long a connection may idle, and a scraper that
/// comes once a minute shall find its own still open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// A client that takes nothing of its answer for this long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer must be taken whole within this time: a client that takes a byte now and then is cut off too.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);
/// A failed accept is logged no more often than this.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_mins(1);
/// How long running answers may take when the server ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors, say) the next is tried after this.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Answers requests on `listeners`, over at most `cap` connections, until `shutdown` is done, then drains. Connections are encrypted if
/// the `gate` says so.
pub(super) async fn serve<F, A>(
    listeners: Vec<TcpListener>,
    web_config: Option<Arc<WebConfigWatcher>>,
    cap: Arc<AtomicUsize>,
    respond: F,
    shutdown: impl Future<Output = ()>,
) where
    F: Fn(Request<Incoming>, PeerInfo) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = Connections::new(cap);
    let (open, ending) = watch::channel(());
    let entrance = TlsAcceptor { web_config: web_config.filter(|web_config| web_config.is_tls()), ending };
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (connections, graceful) = (Arc::clone(&connections), Arc::clone(&graceful));
            tokio::spawn(accept(listener, entrance.clone(), respond.clone(), connections, graceful))
        })
        .collect();
    shutdown.await;
    drop(open);
    for task in accepting {
        task.abort();
        let _ = task.await;
    }
    // Those tasks held the other handles, so this is the last.
    let Some(graceful) = Arc::into_inner(graceful) else { return };
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were cut off: their answers were not taken within 5 s");
    }
}

/// The ends of a connection.
#[derive(Clone, Debug)]
pub(super) struct PeerInfo {
    /// The address of this machine.
    pub local: IpAddr,
    /// The address of the client.
    pub peer: IpAddr,
    /// Which clients could connect when it did; `None` without TLS.
    pub trust: Option<ClientTrust>,
}

impl PeerInfo {
    /// Of a connection that is no network's.
    pub(super) const fn unknown() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { local: nowhere, peer: nowhere, trust: None }
    }
}

/// A connection without TLS, or with it.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// How connections begin.
#[derive(Clone)]
struct TlsAcceptor {
    /// Where TLS comes from, if connections are encrypted.
    web_config: Option<Arc<WebConfigWatcher>>,
    /// Closed when the server ends.
    ending: watch::Receiver<()>,
}

impl TlsAcceptor {
    /// The connection, encrypted if it must be; `None` if the client dawdles or the server ends.
    async fn accept(mut self, stream: TcpStream) -> Option<(Stream, Option<ClientTrust>)> {
        let Some(web_config) = &self.web_config else { return Some((Either::Left(stream), None)) };
        let tls = web_config.tls().await?;
        tokio::select! {
            greeted = timeout(HANDSHAKE_TIMEOUT, tls.handshake(stream)) => match greeted {
                Ok(Ok(stream)) => return Some((Either::Right(stream), Some(tls.trust().clone()))),
                Ok(Err(error)) => tracing::debug!("a handshake failed: {error}"),
                Err(_) => tracing::debug!("a connection had not ended its handshake within 10 s"),
            },
            _ = self.ending.changed() => {}
        }
        None
    }
}

async fn accept<F, A>(
    listener: TcpListener,
    entrance: TlsAcceptor,
    respond: F,
    connections: Arc<Connections>,
    graceful: Arc<GracefulShutdown>,
) where
    F: Fn(Request<Incoming>, PeerInfo) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let busy = raw_response("503 Service Unavailable", "too many connections: try again in a while");
    let mut warned: Option<Instant> = None;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if warned.is_none_or(|warned| warned.elapsed() >= ACCEPT_WARNING_INTERVAL) {
                    tracing::warn!("cannot accept a connection: {error}");
                    warned = Some(Instant::now());
                }
                // It may be for want of a file descriptor.
                connections.close_oldest_idle();
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(slot) = connections.open_after_eviction(peer.ip()).await else {
            // Nothing waits for this: what the socket does not take at once is not said.
            drop(stream.try_write(busy.as_bytes()));
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let mut ends = PeerInfo { local: local.ip(), peer: peer.ip(), trust: None };
        let _ = stream.set_nodelay(true);
        let (entrance, respond, watcher) = (entrance.clone(), respond.clone(), graceful.watcher());
        tokio::spawn(async move {
            let serve = async {
                if let Some((stream, trust)) = entrance.accept(stream).await {
                    ends.trust = trust;
                    let respond = |request| {
                        let (busy, response) = (slot.busy(), respond(request, ends.clone()));
                        async { response.await.map(|parts| parts.with_busy(busy)) }
                    };
                    serve_connection(stream, respond, watcher).await;
                }
            };
            tokio::select! {
                () = serve => {}
                () = slot.closed() => tracing::debug!("an idle connection made room for another"),
            }
        });
    }
}

/// Answers the requests that come over `stream` until it ends, or dawdles.
pub(super) async fn serve_connection<S, F, A>(stream: S, respond: F, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + 'static,
    F: Fn(Request<Incoming>) -> A + Sync,
    A: Future<Output = Response<ResponseBody>>,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let asked = Notify::new();
    let (answering, mut answered) = watch::channel(None::<Instant>);
    let service = service_fn(|request| {
        asked.notify_one();
        let answer = respond(request);
        async {
            let response = answer.await;
            answering.send_replace(Some(Instant::now()));
            let answering = answering.clone();
            let response = response.map(|parts| {
                parts.on_end(move || {
                    answering.send_replace(None);
                })
            });
            let is_sent = response.extensions().get::<CloseConnection>().is_none();
            is_sent.then_some(response).ok_or_else(|| io::Error::other("its client has to connect again"))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        // Who has said all and closes its side, as `nc -N` does, still wants the answer.
        .half_close(true)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let silent = async {
        if timeout(FIRST_REQUEST_TIMEOUT, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let slow = async {
        loop {
            let Some(since) = *answered.borrow_and_update() else {
                if answered.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            if timeout_at(since + RESPONSE_TIMEOUT, answered.changed()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        ended = watcher.watch(connection) => {
            if let Err(error) = ended {
                tracing::debug!("a connection ended early: {}", io::Error::other(error));
            }
        }
        () = slow => tracing::debug!("a connection had not taken its answer within two minutes"),
        () = silent => tracing::debug!("a connection sent no request within 10 s"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_now_and_then_is_cut_off_in_the_end() {
        let (mut client, server) = duplex(16);
        let respond =
            |_| std::future::ready(Response::new(ResponseBody::shared(vec![b'x'; 10_000_000].into())));
        let graceful = GracefulShutdown::new();
        let serving = serve_connection(server, respond, graceful.watcher());
        let taking = async {
            let asked = client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(asked.is_ok());
            let began = Instant::now();
            while client.read(&mut [0]).await.is_ok_and(|read| read > 0) {
                sleep(Duration::from_secs(1)).await;
                assert!(began.elapsed() < RESPONSE_TIMEOUT * 2, "it is never cut off");
            }
            began.elapsed()
        };
        let (took, ()) = tokio::join!(taking, serving);
        assert!(took >= RESPONSE_TIMEOUT, "{took:?}");
    }
}
