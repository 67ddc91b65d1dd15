//! The sockets of the simulated exchange: accepts connections, routes requests, and resets connections on request.
//!
//! Must not decide anything about a call; `exchange` does.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    pin::pin,
    time::Duration,
};

use hyper::{
    Method, Request, Response, body::Incoming, header::ALLOW, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    control,
    endpoint::SimulatedEndpoint,
    exchange::IncomingCall,
    handle::Simulator,
    reply::{ConnectionReset, ReplyBody, SimulatedReply},
};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

impl Simulator {
    /// Serves until `shutdown` is done. Afterwards calls in flight have one second to end.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let (close, closing) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(serve_connection(self.clone(), stream, peer, closing.clone()));
                    }
                    // The caller has left, or no file descriptor is free.
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        drop(close);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_TIMEOUT, drained).await; // dropping the set aborts the rest
    }
}

/// Serves one connection until it ends or the simulator closes.
async fn serve_connection(
    simulator: Simulator,
    stream: TcpStream,
    peer: SocketAddr,
    mut closing: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true); // otherwise a slow body arrives in clumps
    let (Ok(local), Ok(second)) = (stream.local_addr(), clone_stream(&stream)) else {
        return;
    };
    let (copies, copies_due) = mpsc::unbounded_channel();
    let mut sending_copies = pin!(send_copies(second, copies_due));
    let service =
        service_fn(|request| answer_request(&simulator, peer.ip().to_canonical(), local, request, &copies));
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_closing = false;
    let end = loop {
        tokio::select! {
            end = &mut served => break end,
            () = &mut sending_copies => {}
            _ = closing.changed(), if !is_closing => {
                is_closing = true;
                std::pin::Pin::new(&mut served).graceful_shutdown();
            }
        }
    };
    let is_reset = end.is_err_and(|error| error.source().is_some_and(<dyn Error>::is::<ConnectionReset>));
    if is_reset {
        // Closing a socket without lingering resets the connection.
        let _ = served.into_parts().io.inner().set_zero_linger();
    }
}

/// Bytes of a response copy and the time to send them.
type ScheduledCopy = (Instant, Vec<u8>);

/// Opens a second handle on a connection, beside the handle of the HTTP server.
fn clone_stream(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}

/// Sends copies of responses when they are due. Never ends. It must run in the task of the connection, so that the HTTP
/// server writes the response before its copy.
async fn send_copies(mut stream: TcpStream, mut due: mpsc::UnboundedReceiver<ScheduledCopy>) {
    while let Some((at, bytes)) = due.recv().await {
        sleep_until(at).await;
        let _ = stream.write_all(&bytes).await; // the client may have left
    }
    std::future::pending::<()>().await;
}

/// Answers one request, and schedules a copy of the response if a fault demands it.
async fn answer_request(
    simulator: &Simulator,
    caller: IpAddr,
    local: SocketAddr,
    request: Request<Incoming>,
    copies: &mpsc::UnboundedSender<ScheduledCopy>,
) -> Result<Response<ReplyBody>, ConnectionReset> {
    let path = request.uri().path();
    let reply = if path == "/simulator" || path.starts_with("/simulator/") {
        control::handle_request(simulator, local, request).await
    } else if let Some(endpoint) = SimulatedEndpoint::from_path(path) {
        if request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default();
            let call = IncomingCall { endpoint, query, headers: request.headers(), ip: caller };
            simulator.lock_exchange().answer_call(&call, Instant::now())
        } else {
            simulator.lock_exchange().count_unknown_request();
            SimulatedReply::text(405, "Method not allowed. This endpoint supports GET.\n")
                .with_header(ALLOW, Some("GET"))
        }
    } else {
        simulator.lock_exchange().count_unknown_request();
        SimulatedReply::text(404, "No such endpoint. /simulator/ lists all endpoints.\n")
    };
    let (response, copy) = reply.respond(|| simulator.server_time_ms()).await?;
    if let Some(copy) = copy
        && let Some(due) = Instant::now().checked_add(copy.after)
    {
        let _ = copies.send((due, copy.bytes));
    }
    Ok(response)
}
