//! The request of `healthcheck` on an open connection, and its response: the status, and the body as text. Opens no
//! connection and reads no file.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1::Builder};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

const HEAD_MAX_BYTES: usize = 64 * 1024;
const BODY_MAX_BYTES: usize = 64 * 1024;

/// A response, with at most 64 KiB of its body.
#[derive(Debug)]
pub(super) struct Response {
    pub status: StatusCode,
    pub body: String,
}

/// Sends the request and waits for the response, without a deadline.
///
/// # Errors
/// If the connection breaks, or the response is not HTTP/1. A body that breaks ends early, because the status has said
/// whether the exporter is healthy.
pub(super) async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        Builder::new().max_buf_size(HEAD_MAX_BYTES).handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        // The connection failed before it took the request, so only its own error has the reason.
        Err(error) if error.is_canceled() => {
            return Err(connection.await.ok().and_then(Result::err).unwrap_or(error));
        }
        Err(error) => return Err(error),
    };
    let status = response.status();
    let body = read_body(response.into_body()).await;
    connection.abort();
    Ok(Response { status, body })
}

async fn read_body(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        bytes.extend(data.into_iter().take(BODY_MAX_BYTES - bytes.len()));
        if bytes.len() == BODY_MAX_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// What a server gets that sends `bytes` and closes.
    async fn answer(bytes: &[u8]) -> Result<Response, hyper::Error> {
        let (client, mut server) = duplex(1024 * 1024);
        let respond = async {
            let mut request = [0; 1024];
            let _ = server.read(&mut request).await;
            let _ = server.write_all(bytes).await;
            drop(server);
        };
        let request = Request::get("/-/healthy").body(Empty::new()).unwrap_or_default();
        tokio::join!(send(client, request), respond).0
    }

    #[tokio::test]
    async fn the_framing_of_chunks_is_no_part_of_the_body() {
        for (bytes, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhealthy\n", 200, "healthy\n"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-Encoding: Chunked\r\n\r\n4\r\nheal\r\n4;x=y\r\nthy\n\r\n0\r\n\r\n",
                200,
                "healthy\n",
            ),
            ("HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nstuck", 503, "stuck"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx", 200, ""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx", 200, ""),
        ] {
            let response = answer(bytes.as_bytes()).await;
            let found = response.as_ref().ok().map(|response| (response.status.as_u16(), &*response.body));
            assert_eq!(found, Some((status, body)), "{bytes}: {response:?}");
        }
        for bytes in ["garbage", "", "HTTP/1.1 200 OK\r\n"] {
            assert!(answer(bytes.as_bytes()).await.is_err(), "{bytes}");
        }
    }

    #[tokio::test]
    async fn a_response_is_read_up_to_a_size() {
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2 * BODY_MAX_BYTES));
        assert_eq!(
            answer(endless.as_bytes()).await.map(|response| response.body.len()).ok(),
            Some(BODY_MAX_BYTES)
        );
        let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_MAX_BYTES));
        assert!(answer(long_head.as_bytes()).await.is_err_and(|error| error.is_parse()));
    }
}
