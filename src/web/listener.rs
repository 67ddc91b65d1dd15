//! Accepts connections, serves requests on them, and closes those that exceed a timeout. Does not depend on routes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{
    config_watcher::WebConfigWatcher,
    connections::{ConnectionSlot, Connections},
    response::{CloseConnection, ResponseBody, raw_response},
    tls::ClientTrust,
};

/// Maximum duration of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time until the header of the first request is complete.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time until the header of a later request is complete. A connection may idle for this time too, so that a scraper
/// with an interval of a minute keeps its connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Maximum time without progress of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time until a response is received, also if the client reads a byte now and then.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);
/// Minimum time between two log lines about failed accepts.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_mins(1);
/// Time that a new connection gets at shutdown to send its first request: the client was told that it is connected, so
/// it does not try again.
const SHUTDOWN_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time that running responses get at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, for example when there is no file descriptor left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Serves requests on `listeners`, over at most `connection_limit` connections, until `shutdown` resolves, then drains.
/// Connections use TLS if `web_config` has it.
pub(super) async fn serve<F, A>(
    listeners: Vec<TcpListener>,
    web_config: Option<Arc<WebConfigWatcher>>,
    connection_limit: Arc<AtomicUsize>,
    respond: F,
    shutdown: impl Future<Output = ()>,
) where
    F: Fn(Request<Incoming>, PeerInfo) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let connections = Connections::new(connection_limit);
    let (stop, shutting_down) = watch::channel(false);
    let web_config = web_config.filter(|web_config| web_config.is_tls());
    let acceptor = TlsAcceptor { web_config };
    for listener in listeners {
        let (connections, shutting_down) = (Arc::clone(&connections), shutting_down.clone());
        tokio::spawn(accept(listener, acceptor.clone(), respond.clone(), connections, shutting_down));
    }
    drop(shutting_down);
    shutdown.await;
    stop.send_replace(true);
    // Every listener and every connection holds a receiver until it ends.
    if timeout(DRAIN_TIMEOUT, stop.closed()).await.is_err() {
        tracing::warn!(
            "closed connections at shutdown: their clients had not received the responses within 5 s"
        );
    }
}

/// Resolves when `state` becomes true, or its sender is gone.
async fn wait_until_true(state: &mut watch::Receiver<bool>) {
    let _ = state.wait_for(|state| *state).await;
}

/// Addresses of a connection, and the client certificates that were allowed when it was opened.
#[derive(Clone, Debug)]
pub(super) struct PeerInfo {
    /// Address of this server.
    pub local: IpAddr,
    /// Address of the client.
    pub peer: IpAddr,
    /// The rules for client certificates at the handshake; `None` without TLS.
    pub trust: Option<ClientTrust>,
}

impl PeerInfo {
    /// For a stream that is not a network connection.
    pub(super) const fn unspecified() -> Self {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { local: address, peer: address, trust: None }
    }
}

/// A connection without or with TLS.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Performs TLS handshakes, if TLS is configured.
#[derive(Clone)]
struct TlsAcceptor {
    /// `None` without TLS.
    web_config: Option<Arc<WebConfigWatcher>>,
}

impl TlsAcceptor {
    /// `None` if the handshake fails or takes too long.
    async fn accept(&self, stream: TcpStream) -> Option<(Stream, Option<ClientTrust>)> {
        let Some(web_config) = &self.web_config else { return Some((Either::Left(stream), None)) };
        let tls = web_config.tls().await?;
        match timeout(HANDSHAKE_TIMEOUT, tls.handshake(stream)).await {
            Ok(Ok(stream)) => return Some((Either::Right(stream), Some(tls.trust().clone()))),
            Ok(Err(error)) => tracing::debug!("TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("TLS handshake not complete within 10 s"),
        }
        None
    }
}

/// Accepts connections until the server shuts down.
async fn accept<F, A>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    respond: F,
    connections: Arc<Connections>,
    mut shutting_down: watch::Receiver<bool>,
) where
    F: Fn(Request<Incoming>, PeerInfo) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let unavailable = raw_response("503 Service Unavailable", "too many connections: try again later");
    let mut last_warning: Option<Instant> = None;
    loop {
        // Nothing else is cancelled at shutdown: a connection that was accepted is served.
        let accepted = tokio::select! {
            biased;
            () = wait_until_true(&mut shutting_down) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if last_warning.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_INTERVAL) {
                    tracing::warn!("cannot accept a connection: {error}");
                    last_warning = Some(Instant::now());
                }
                // The reason may be a missing file descriptor.
                connections.close_oldest_idle();
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let Ok(slot) = connections.open_after_eviction(peer.ip()).await else {
            // Never waits for the client: it receives as much as the socket takes at once.
            drop(stream.try_write(unavailable.as_bytes()));
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let peer_info = PeerInfo { local: local.ip(), peer: peer.ip(), trust: None };
        let _ = stream.set_nodelay(true);
        let (acceptor, respond, shutting_down) = (acceptor.clone(), respond.clone(), shutting_down.clone());
        tokio::spawn(async move {
            let handshake = async {
                tokio::select! {
                    accepted = acceptor.accept(stream) => accepted,
                    () = wait_for_late_request(shutting_down.clone()) => None,
                }
            };
            let Some((stream, trust)) = run_unless_evicted(&slot, handshake).await.flatten() else { return };
            let peer_info = PeerInfo { trust, ..peer_info };
            let respond = |request| {
                let (busy, response) = (slot.set_busy(), respond(request, peer_info.clone()));
                async { response.await.map(|body| body.with_busy(busy)) }
            };
            run_unless_evicted(&slot, serve_connection(stream, respond, shutting_down)).await;
        });
    }
}

/// Resolves when the server has been shutting down for so long that a connection without a request is closed.
async fn wait_for_late_request(mut shutting_down: watch::Receiver<bool>) {
    wait_until_true(&mut shutting_down).await;
    sleep(SHUTDOWN_REQUEST_TIMEOUT).await;
}

/// Runs `future` until it ends or the connection must make room for another; `None` in the second case.
async fn run_unless_evicted<T>(slot: &ConnectionSlot, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        output = future => Some(output),
        () = slot.wait_for_close() => {
            tracing::debug!("closed an idle connection to make room for another");
            None
        }
    }
}

/// Serves requests on `stream` until it ends or exceeds a timeout. `shutting_down` becomes true when the server shuts
/// down: the connection ends after the response to its current or first request.
pub(super) async fn serve_connection<S, F, A>(stream: S, respond: F, mut shutting_down: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + 'static,
    F: Fn(Request<Incoming>) -> A + Sync,
    A: Future<Output = Response<ResponseBody>>,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let (has_request, mut request_receiver) = watch::channel(false);
    let mut second_request_receiver = request_receiver.clone();
    let (sending_since, sending_since_receiver) = watch::channel(None::<Instant>);
    let service = service_fn(|request| {
        has_request.send_replace(true);
        let response = respond(request);
        async {
            let response = response.await;
            sending_since.send_replace(Some(Instant::now()));
            let sending_since = sending_since.clone();
            let response = response.map(|body| {
                body.on_end(move || {
                    sending_since.send_replace(None);
                })
            });
            let is_sent = response.extensions().get::<CloseConnection>().is_none();
            is_sent.then_some(response).ok_or_else(|| io::Error::other("the client must connect again"))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        // A client may close its side after the request, as `nc -N` does, and still wait for the response.
        .half_close(true)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let late_request = wait_for_late_request(shutting_down.clone());
    let no_request = async {
        tokio::select! {
            biased;
            () = wait_until_true(&mut request_receiver) => std::future::pending().await,
            () = sleep(FIRST_REQUEST_TIMEOUT) => {}
            () = late_request => {}
        }
    };
    // hyper would close a connection without a request at once.
    let drain = async {
        wait_until_true(&mut second_request_receiver).await;
        wait_until_true(&mut shutting_down).await;
    };
    let (mut connection, mut no_request, mut drain) = (pin!(connection), pin!(no_request), pin!(drain));
    let mut too_slow = pin!(response_timeout(sending_since_receiver));
    let mut is_draining = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!("connection ended early: {}", io::Error::other(error));
                }
                return;
            }
            () = &mut drain, if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut too_slow => {
                tracing::debug!("closed a connection: response not received within 2 min");
                return;
            }
            () = &mut no_request => {
                tracing::debug!("closed a connection: no request received in time");
                return;
            }
        }
    }
}

/// Resolves when a response has been sent for longer than [`RESPONSE_TIMEOUT`].
async fn response_timeout(mut sending_since: watch::Receiver<Option<Instant>>) {
    loop {
        let Some(since) = *sending_since.borrow_and_update() else {
            if sending_since.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        };
        if timeout_at(since + RESPONSE_TIMEOUT, sending_since.changed()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_byte_per_second_is_disconnected() {
        let (mut client, server) = duplex(16);
        let respond =
            |_| std::future::ready(Response::new(ResponseBody::shared(vec![b'x'; 10_000_000].into())));
        let (_running, shutting_down) = watch::channel(false);
        let serving = serve_connection(server, respond, shutting_down);
        let reading = async {
            let sent = client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(sent.is_ok());
            let started = Instant::now();
            while client.read(&mut [0]).await.is_ok_and(|read| read > 0) {
                sleep(Duration::from_secs(1)).await;
                assert!(started.elapsed() < RESPONSE_TIMEOUT * 2, "it is never disconnected");
            }
            started.elapsed()
        };
        let (elapsed, ()) = tokio::join!(reading, serving);
        assert!(elapsed >= RESPONSE_TIMEOUT, "{elapsed:?}");
    }

    /// Serves a client that connects just before the server shuts down and sends `request` after `delay`. Returns the
    /// response.
    async fn ask_at_shutdown(request: &[u8], delay: Duration) -> String {
        let (mut client, server) = duplex(1024);
        let respond =
            |_| std::future::ready(Response::new(ResponseBody::shared(b"balances".to_vec().into())));
        let (stop, shutting_down) = watch::channel(false);
        let serving = serve_connection(server, respond, shutting_down);
        let asking = async {
            tokio::task::yield_now().await;
            stop.send_replace(true);
            sleep(delay).await;
            let _ = client.write_all(request).await;
            let mut response = String::new();
            let _ = client.read_to_string(&mut response).await;
            response
        };
        tokio::join!(asking, serving).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_connected_before_the_shutdown_gets_its_response() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for delay in [Duration::ZERO, SHUTDOWN_REQUEST_TIMEOUT / 2] {
            let response = ask_at_shutdown(request, delay).await;
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(response.ends_with("balances"), "{response}");
        }
        assert_eq!(ask_at_shutdown(request, SHUTDOWN_REQUEST_TIMEOUT * 2).await, "");
        assert_eq!(ask_at_shutdown(b"GET /metr", Duration::ZERO).await, "", "it does not wait for the rest");
    }
}
