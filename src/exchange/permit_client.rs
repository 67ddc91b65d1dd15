//! Permits of another process: a second reader asks the daemon before each call, so that the calls of both count against one
//! set of limits. Knows neither HTTP nor the daemon.

use std::{fmt, pin::Pin, time::Duration};

use tokio::time::Instant;

use super::{error::Failure, secret::KeyId};

/// Asks another process for a permit before each call.
pub struct PermitClient(Box<dyn Fn(Option<KeyId>) -> PermitFuture + Send + Sync>);

/// The other process's reply.
pub type PermitFuture = Pin<Box<dyn Future<Output = PermitResponse> + Send>>;

/// What the other process replies.
#[derive(Debug)]
pub enum PermitResponse {
    /// One call may be made.
    Granted(RemotePermit),
    /// The exchange limits the key or the address: no call may be made for this long.
    Paused(Duration),
    /// No process gives permits: only the limits of this process count.
    Unavailable,
    /// The other process gave permits and no longer answers: no call may be made.
    Failed(Failure),
}

/// A permit of another process for one call. The other process counts the call as in flight until this is dropped.
pub struct RemotePermit {
    expires: Instant,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl PermitClient {
    /// A client that asks with `ask`, which gets the key of the call; `None` for a call without one.
    #[must_use]
    pub fn new(ask: impl Fn(Option<KeyId>) -> PermitFuture + Send + Sync + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(super) async fn ask(&self, key: Option<KeyId>) -> PermitResponse {
        (self.0)(key).await
    }
}

impl fmt::Debug for PermitClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PermitClient")
    }
}

impl RemotePermit {
    /// A permit for a call that ends within `valid_for`. `on_end` is called when the call has ended.
    #[must_use]
    pub fn new(valid_for: Duration, on_end: impl FnOnce() + Send + 'static) -> Self {
        Self { expires: Instant::now() + valid_for, on_end: Some(Box::new(on_end)) }
    }

    /// The time in which the call must end.
    pub(super) fn remaining(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }
}

impl fmt::Debug for RemotePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemotePermit")
    }
}

impl Drop for RemotePermit {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end();
        }
    }
}
