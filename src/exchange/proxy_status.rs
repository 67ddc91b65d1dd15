//! Asks a proxy for the status with which it refuses a tunnel, because the HTTP library does not tell it. Only `check` does
//! so: one more CONNECT per poll would be of no use. Sends nothing to the exchange.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    base_url::BaseUrl,
    client::Client,
    error::{Detail, Failure},
    proxy::Proxy,
    proxy_logins::LoginPermit,
};

/// The longest part of the answer that is read. The status stands at its beginning.
const ANSWER_MAX_BYTES: usize = 64;

impl Client {
    /// Finds out why the proxy of `base` refused the tunnel, if `failure` says that it did: because it does not allow this
    /// host, or because it cannot reach it. Returns `failure` as it is if the proxy does not tell within `time`, or if
    /// TLS leads to the proxy.
    pub async fn explain_proxy_refusal(&self, base: &BaseUrl, failure: Failure, time: Duration) -> Failure {
        let proxy = base.route().proxy.as_ref().filter(|proxy| proxy.url().scheme() == "http");
        let Some(proxy) = proxy.filter(|_| failure.detail == Some(Detail::ProxyRefused)) else {
            return failure;
        };
        let status = async {
            let login = self.transport.login_permit(base).await.ok()?;
            request_status(base, proxy, login.as_ref()).await
        };
        let (host, port) = base.host_and_port();
        let (what, detail) = match timeout(time, status).await.ok().flatten() {
            Some(status @ (401 | 403 | 405)) => (
                format!("does not allow a connection to {host}:{port} (HTTP {status})"),
                Detail::ProxyForbids,
            ),
            Some(status @ 500..=599) => {
                (format!("cannot connect to {host}:{port} (HTTP {status})"), Detail::ProxyCannotConnect)
            }
            _ => return failure,
        };
        Failure { text: format!("{base}: the proxy {proxy} {what}"), detail: Some(detail), ..failure }
    }
}

/// Asks `proxy` for a tunnel to `base` and closes the connection.
async fn request_status(base: &BaseUrl, proxy: &Proxy, login: Option<&LoginPermit>) -> Option<u16> {
    let (host, port) = base.host_and_port();
    let login =
        login.map(|login| format!("Proxy-Authorization: Basic {}\r\n", login.credentials().encoded()));
    let head =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{}\r\n", login.unwrap_or_default());
    let mut stream = TcpStream::connect(proxy.to_string()).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // The proxy may keep the connection open.
    while answer.len() < ANSWER_MAX_BYTES && stream.read_buf(&mut answer).await.ok()? > 0 {
        if let Some(status) = parse_status(&answer) {
            return Some(status);
        }
    }
    None
}

/// The status of an HTTP answer.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(status).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_stands_after_the_version() {
        assert_eq!(parse_status(b"HTTP/1.1 403 Forbidden\r\n"), Some(403));
        assert_eq!(parse_status(b"HTTP/1.0 502\r\n"), Some(502));
        for other in [&b""[..], b"SSH-2.0", b"HTTP/1.1", b"HTTP/1.1 4", b"HTTP/1.1 abc"] {
            assert_eq!(parse_status(other), None);
        }
    }
}
