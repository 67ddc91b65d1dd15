//! The socket side: accepts connections, routes requests, and ends connections as the faults want it.
//!
//! Decides nothing about a call; that is `exchange`.

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
    SimulatedEndpoint, Simulator, control,
    exchange::IncomingCall,
    reply::{ConnectionReset, PacedBody, SimulatedReply},
};

const HEADER_DEADLINE: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(1);

pub(super) async fn serve(simulator: &Simulator, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let (close, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(simulator.clone(), stream, peer, closing.clone()));
                }
                // A caller that left, or no descriptor free: the next may do better.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(close);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(DRAIN, drained).await; // what is left is aborted with the set
}

/// Serves one connection until it ends or the simulator closes.
async fn connection(
    simulator: Simulator,
    stream: TcpStream,
    peer: SocketAddr,
    mut closing: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true); // or a slow body would come in clumps
    let (Ok(local), Ok(second)) = (stream.local_addr(), second_handle(&stream)) else {
        return;
    };
    let (copies, due) = mpsc::unbounded_channel();
    let mut sending_copies = pin!(send_copies(second, due));
    let service = service_fn(|request| answer(&simulator, peer.ip().to_canonical(), local, request, &copies));
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let mut asked = false;
    let end = loop {
        tokio::select! {
            end = &mut served => break end,
            () = &mut sending_copies => {}
            _ = closing.changed(), if !asked => {
                asked = true;
                std::pin::Pin::new(&mut served).graceful_shutdown();
            }
        }
    };
    let reset = end.is_err_and(|error| error.source().is_some_and(<dyn Error>::is::<ConnectionReset>));
    if reset {
        // A close without lingering is a reset.
        let _ = served.into_parts().io.inner().set_zero_linger();
    }
}

/// A response in bytes and the time to send it without a request.
type AnswerCopy = (Instant, Vec<u8>);

/// A second handle on a connection, beside the one that the HTTP server owns.
fn second_handle(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}

/// Sends copies of answers when they are due; never ends. It must run in the task of the connection: the HTTP server
/// then writes the answer before this can write the copy.
async fn send_copies(mut stream: TcpStream, mut due: mpsc::UnboundedReceiver<AnswerCopy>) {
    while let Some((at, bytes)) = due.recv().await {
        sleep_until(at).await;
        let _ = stream.write_all(&bytes).await; // the client may have left
    }
    std::future::pending::<()>().await;
}

/// Answers one request, and schedules the copy of the answer that a fault asks for.
async fn answer(
    simulator: &Simulator,
    caller: IpAddr,
    local: SocketAddr,
    request: Request<Incoming>,
    copies: &mpsc::UnboundedSender<AnswerCopy>,
) -> Result<Response<PacedBody>, ConnectionReset> {
    let path = request.uri().path();
    let reply = if path == "/simulator" || path.starts_with("/simulator/") {
        control::answer(simulator, local, request).await
    } else if let Some(endpoint) = SimulatedEndpoint::at(path) {
        if request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default();
            let call = IncomingCall { endpoint, query, headers: request.headers(), ip: caller };
            simulator.exchange().call(&call, Instant::now())
        } else {
            simulator.exchange().count_unknown_request();
            SimulatedReply::text(405, "The exchange answers GET here.\n".to_owned()).with(ALLOW, Some("GET"))
        }
    } else {
        simulator.exchange().count_unknown_request();
        SimulatedReply::text(
            404,
            "The simulated exchange has nothing here; /simulator/ says what it has.\n".to_owned(),
        )
    };
    let repeats_after = reply.repeats_after();
    let response = reply.respond(|| simulator.server_time_ms()).await?;
    if let Some(at) = repeats_after.and_then(|time| Instant::now().checked_add(time)) {
        let _ = copies.send((at, PacedBody::to_bytes(&response)));
    }
    Ok(response)
}
