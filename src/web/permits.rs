//! `/-/permit`: other processes on this machine ask for a permit before each call to the exchange. The rate limiter decides;
//! this module only translates HTTP.

use std::time::Duration;

use hyper::{Method, Response, StatusCode, header};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::response::{
    ResponseBody, json_response, method_not_allowed, text_response, with_header, with_status,
};
use crate::exchange::KeyId;

pub(super) const PERMIT_PATH: &str = "/-/permit";

/// A request of another process.
#[derive(Debug)]
pub enum PermitRequest {
    /// It wants to make a call with this key; `None` for a call without one.
    Grant(Option<KeyId>, oneshot::Sender<Result<GrantedPermit, PermitRefusal>>),
    /// The call with this permit has ended.
    End(u64),
}

/// A permit for one call.
#[derive(Clone, Copy, Debug)]
pub struct GrantedPermit {
    /// Identifies it until it ends.
    pub id: u64,
    /// The call counts as ended after this time.
    pub valid_for: Duration,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitRefusal {
    /// Other calls use up the limits.
    Busy,
    /// The exchange limits the key or the address, so nobody sends a call.
    Paused {
        /// The time until the end of the pause.
        remaining: Duration,
    },
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    Key(KeyId),
    NoKey,
    Id(u64),
}

/// Responds to a request for [`PERMIT_PATH`]. The receiver of `permits` decides.
pub(super) async fn respond(
    permits: &mpsc::Sender<PermitRequest>,
    method: &Method,
    query: Option<&str>,
) -> Response<ResponseBody> {
    let query = parse_query(query.unwrap_or_default());
    match (method, query) {
        (&Method::POST, Some(Query::Key(key))) => grant(permits, Some(key)).await,
        (&Method::POST, Some(Query::NoKey)) => grant(permits, None).await,
        (&Method::DELETE, Some(Query::Id(id))) => {
            // Without this the permit ends by itself.
            let _ = permits.try_send(PermitRequest::End(id));
            text_response(StatusCode::OK, "the call has ended\n".to_owned())
        }
        (&Method::POST | &Method::DELETE, _) => {
            let text = "invalid query: use POST with key=SHA256 or nothing, and DELETE with id=ID\n";
            text_response(StatusCode::BAD_REQUEST, text.to_owned())
        }
        _ => method_not_allowed("method not allowed: use POST or DELETE\n", "POST, DELETE"),
    }
}

async fn grant(permits: &mpsc::Sender<PermitRequest>, key: Option<KeyId>) -> Response<ResponseBody> {
    let (reply, granted) = oneshot::channel();
    let granted = match permits.try_send(PermitRequest::Grant(key, reply)) {
        // The sender is dropped only while the process ends.
        Ok(()) => granted.await.unwrap_or(Err(PermitRefusal::Busy)),
        Err(_) => Err(PermitRefusal::Busy),
    };
    match granted {
        Ok(GrantedPermit { id, valid_for }) => {
            let body = json!({"id": format!("{id:016x}"), "valid_seconds": valid_for.as_secs()});
            json_response(format!("{body}\n"))
        }
        Err(PermitRefusal::Busy) => {
            let text = "no permit: other calls use up the limits: try again in a second\n";
            let response = text_response(StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
            with_header(response, header::RETRY_AFTER, "1")
        }
        Err(PermitRefusal::Paused { remaining }) => {
            // Rounded up: the other process sends nothing before the end.
            let paused_seconds = remaining.as_secs() + 1;
            let body = json!({"error": "paused after a rate-limit reply", "paused_seconds": paused_seconds});
            with_status(json_response(format!("{body}\n")), StatusCode::CONFLICT)
        }
    }
}

fn parse_query(query: &str) -> Option<Query> {
    if query.is_empty() {
        return Some(Query::NoKey);
    }
    match query.split_once('=')? {
        ("key", digits) => digits.parse().ok().map(Query::Key),
        ("id", digits) => u64::from_str_radix(digits, 16).ok().map(Query::Id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{clock::Clock, web::Server};

    #[tokio::test]
    async fn another_machine_gets_permits_only_with_the_lifecycle() {
        for (has_lifecycle, status) in [(false, "403"), (true, "503")] {
            // Nobody receives, so the daemon counts as busy.
            let (permits, _) = mpsc::channel(1);
            let (reloads, _requests) = mpsc::channel(1);
            let server = Server::new(Arc::default(), Clock::start(), "/metrics".to_owned(), 1)
                .with_permits(permits)
                .with_reloads(has_lifecycle.then_some(reloads));
            let (mut client, stream) = duplex(1024);
            let ask = async {
                let request = "POST /-/permit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                let _ = client.write_all(request.as_bytes()).await;
                let mut response = String::new();
                let _ = client.read_to_string(&mut response).await;
                response
            };
            let (response, ()) = tokio::join!(ask, server.serve_connection(stream));
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        }
    }

    #[test]
    fn a_query_names_a_key_or_a_permit_or_nothing() {
        let key = "0f".repeat(32);
        assert_eq!(parse_query(""), Some(Query::NoKey));
        assert!(matches!(parse_query(&format!("key={key}")), Some(Query::Key(_))));
        assert_eq!(parse_query("id=00000000000000ff"), Some(Query::Id(255)));
        for bad in ["key", "key=", "key=0f", "id=", "id=xyz", "account=main", &format!("key={key}&id=1")] {
            assert_eq!(parse_query(bad), None, "{bad}");
        }
    }
}
