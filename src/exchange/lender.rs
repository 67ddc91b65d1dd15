//! Permits of another process: a second reader asks the daemon before each call, so that the calls of both count against one
//! set of limits. Knows neither HTTP nor the daemon.

use std::{fmt, pin::Pin, time::Duration};

use tokio::time::Instant;

use super::secret::KeyId;

/// Asks another process for a permit before each call.
pub struct Lender(Box<dyn Fn(Option<KeyId>) -> LenderFuture + Send + Sync>);

/// The other process's reply.
pub type LenderFuture = Pin<Box<dyn Future<Output = LenderReply> + Send>>;

/// What the other process replies.
#[derive(Debug)]
pub enum LenderReply {
    /// One call may be made.
    Lent(BorrowedPermit),
    /// The exchange limits the key or the address: no call may be made for this long.
    Paused(Duration),
    /// No process gives permits: only the limits of this process count.
    Nobody,
}

/// A permit of another process for one call. The other process counts the call as in flight until this is dropped.
pub struct BorrowedPermit {
    expires: Instant,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Lender {
    /// A lender that is asked by `ask`. It gets the key of the call; `None` for a call without one.
    #[must_use]
    pub fn new(ask: impl Fn(Option<KeyId>) -> LenderFuture + Send + Sync + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(super) async fn ask(&self, key: Option<KeyId>) -> LenderReply {
        (self.0)(key).await
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lender")
    }
}

impl BorrowedPermit {
    /// A permit for a call that ends within `valid_for`. `on_end` is called when the call has ended.
    #[must_use]
    pub fn new(valid_for: Duration, on_end: impl FnOnce() + Send + 'static) -> Self {
        Self { expires: Instant::now() + valid_for, on_end: Some(Box::new(on_end)) }
    }

    /// The time in which the call must end.
    pub(super) fn rest(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }
}

impl fmt::Debug for BorrowedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BorrowedPermit")
    }
}

impl Drop for BorrowedPermit {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end();
        }
    }
}
