//! One call to the exchange: its permit, its reply and what may be wrong with that.
//! Depends on neither wallets nor the order of hosts.

use std::{sync::Arc, time::Duration};

use super::{
    balance::Wallet,
    base_url::BaseUrl,
    client::Client,
    error::{Failure, Reason},
    failover::Deadline,
    freshness::FreshnessCheck,
    http::Reply,
    pauses::{Caller, Paused},
    permit_client::{PermitResponse, RemotePermit},
    proxy_logins::LoginPermit,
    rate_limiter::Permit,
    request::Request,
    secret::PairId,
    server_clock::ClockReading,
};
use crate::clock::{Timestamp, UnixTime};

/// Maximum time that a read waits for rate-limiter permits in total. If that is not enough, other callers use up the
/// limits: the poll fails and says so, which is better than a poll that hangs.
const PERMIT_WAIT_MAX: Duration = Duration::from_mins(1);

/// The permission to make one call. The caller holds it until the reply is understood: no other call may start before a
/// pause.
#[derive(Debug)]
pub(super) struct CallPermit {
    /// By the rate limiter.
    pub limiter: Permit,
    /// For the user and password of the proxy, if it gets any.
    login: Option<LoginPermit>,
    /// By another process, if this one reads beside a daemon.
    remote: Option<RemotePermit>,
}

/// A call to be sent.
pub(super) struct OutgoingCall<'a> {
    pub caller: Caller<'a>,
    pub base: &'a BaseUrl,
    pub request: Request,
    pub timeout: Duration,
    /// The key pair that signs it and the wallet that it reads, if a refusal blocks the pair for the wallet.
    pub signed: Option<(PairId, Wallet)>,
}

/// A call in flight: its caller, its target, and what its reply is checked against.
pub(super) struct CallContext<'a> {
    pub caller: Caller<'a>,
    pub base: &'a BaseUrl,
    pub path: &'static str,
    /// Redacted from every text of the reply.
    pub secrets: &'a [&'a str],
    pub sent: Timestamp,
    pub timeout: Duration,
    /// How long a cache may have kept the reply.
    pub max_cached: Duration,
    /// The clock that the reply's `Date` is compared with.
    pub date_clock: DateClock,
}

/// The clock that the `Date` of a reply is compared with.
#[derive(Clone, Copy)]
pub(super) enum DateClock {
    /// The exchange's clock, as last read.
    Exchange(ClockReading),
    /// This machine's clock: the exchange's was never read.
    Local,
    /// No clock: the reply itself tells the time.
    Unchecked,
}

impl From<Option<ClockReading>> for DateClock {
    fn from(reading: Option<ClockReading>) -> Self {
        reading.map_or(Self::Local, Self::Exchange)
    }
}

impl DateClock {
    /// The `Date` of a reply that is made at `now`, since the Unix epoch; `None` if it is not checked.
    fn expected_date(self, now: Timestamp) -> Option<UnixTime> {
        match self {
            Self::Exchange(reading) => Some(reading.expected_date(now)),
            Self::Local => Some(now.unix),
            Self::Unchecked => None,
        }
    }
}

/// Why a call returned no value.
pub(super) enum CallError {
    /// The caller is paused after a limit reply: nothing was sent.
    Paused,
    /// The exchange refused the same key to another account while this call waited: nothing was sent.
    KeyRefused,
    /// The call failed.
    Failed(Failure),
}

impl From<Paused> for CallError {
    fn from(_: Paused) -> Self {
        Self::Paused
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Client {
    /// Waits for a permit to make one call to `base`.
    pub(super) async fn permit(
        &self,
        deadline: &mut Deadline,
        caller: Caller<'_>,
        base: &BaseUrl,
    ) -> Result<CallPermit, CallError> {
        let began = self.clock.now();
        let permit = async {
            // First, because a pause may begin meanwhile.
            let login = self.transport.login_permit(base).await?;
            let limiter = self.limits.rate_limiter.permit(caller).await?;
            Ok(CallPermit { limiter, login, remote: self.remote_permit(caller).await? })
        };
        let permit = tokio::time::timeout(PERMIT_WAIT_MAX.saturating_sub(deadline.permit_wait), permit).await;
        deadline.permit_wait += began.age(self.clock.now());
        permit.unwrap_or_else(|_| {
            let text = "nothing was asked: calls of other accounts or with the same key take up the limits";
            Err(Failure::new(Reason::Timeout, text).into())
        })
    }

    /// Asks the process that must permit each call, if there is one.
    async fn remote_permit(&self, caller: Caller<'_>) -> Result<Option<RemotePermit>, CallError> {
        let Some(permit_client) = &self.remote_permits else { return Ok(None) };
        match permit_client.ask(caller.key()).await {
            PermitResponse::Granted(permit) => Ok(Some(permit)),
            PermitResponse::Paused(remaining) => {
                self.limits.rate_limiter.pause_for(caller, remaining);
                Err(CallError::Paused)
            }
            PermitResponse::Unavailable => Ok(None),
            PermitResponse::Failed(failure) => Err(failure.into()),
        }
    }

    /// Sends a call and waits for its reply. If this future is dropped halfway, as by a reload, the call ends in the
    /// background, and only what `decode` then finds out about limits and the key is recorded. Meanwhile it keeps its
    /// permit.
    pub(super) async fn send(
        &self,
        permit: CallPermit,
        call: OutgoingCall<'_>,
        decode: impl FnOnce(u16, Vec<u8>) -> Result<(), Failure> + Send + 'static,
    ) -> (Result<Reply, Failure>, CallPermit) {
        let OutgoingCall { caller, base, request, timeout, signed } = call;
        let timeout = permit.remote.as_ref().map_or(timeout, |remote| remote.remaining().min(timeout));
        let (transport, base) = (Arc::clone(&self.transport), base.clone());
        let (limits, key, name) =
            (Arc::clone(&self.limits), caller.key(), caller.name().map(Box::<str>::from));
        let address = Box::<str>::from(caller.address());
        let call = async move {
            let reply = transport.get(&base, &request, timeout, permit.login.as_ref()).await;
            (reply, permit)
        };
        let record = move |(reply, permit): (Result<Reply, Failure>, CallPermit)| {
            let result = reply.and_then(|reply| decode_reply(reply, decode));
            let caller = match (key, &name) {
                (Some(key), Some(name)) => Caller::Account { key, name, address: &address },
                _ => Caller::Anyone,
            };
            if let Err(failure) = &result {
                limits.record_failure(caller, failure);
            }
            if let Some((pair, wallet)) = signed {
                limits.record_key_result(pair, wallet, &result);
            }
            drop(permit);
        };
        self.abandoned_calls.finish_if_dropped(call, record).await
    }

    /// Decodes a reply and checks that it is fresh. A limit reply pauses the caller. The text of a failure is redacted.
    ///
    /// # Errors
    /// The failure of the call, of the decoder or of the freshness check.
    pub(super) fn check_reply<T>(
        &self,
        call: &CallContext<'_>,
        reply: Result<Reply, Failure>,
        decode: impl FnOnce(u16, Vec<u8>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let now = self.clock.now();
        let decoded = reply.and_then(|reply| {
            let freshness = FreshnessCheck {
                since_sent: call.sent.age(now),
                timeout: call.timeout,
                expected_date: call.date_clock.expected_date(now),
                max_cached: call.max_cached,
                cached: reply.age,
                made: reply.date,
            };
            // A refusal or a limit reply counts even if it is old: only a good answer is checked.
            let decoded = decode_reply(reply, decode);
            let decoded = decoded.and_then(|value| freshness.check().map(|()| value));
            decoded.map_err(|failure| Failure {
                text: format!("{}{}: {}", call.base, call.path, failure.text),
                ..failure
            })
        });
        decoded.map_err(|failure| {
            self.limits.record_failure(call.caller, &failure);
            // A page of the proxy may repeat its user.
            let login = call.base.route().proxy.as_ref().and_then(|proxy| proxy.credentials());
            let login = login.iter().flat_map(|login| login.secrets());
            failure.redact(&call.secrets.iter().copied().chain(login).collect::<Vec<_>>())
        })
    }
}

/// Decodes a reply with `decode`. If the body did not arrive whole, the status alone decides.
fn decode_reply<T>(
    reply: Reply,
    decode: impl FnOnce(u16, Vec<u8>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Reply { status, body, retry_after, .. } = reply;
    let decoded = match body {
        Ok(body) => decode(status, body),
        Err(error) => {
            let text = format!("HTTP {status}, and {error}");
            match decode(status, Vec::new()) {
                Err(failure) => Err(Failure { text, ..failure }),
                Ok(_) => Err(Failure::new(Reason::Body, text)),
            }
        }
    };
    decoded.map_err(|failure| Failure { retry_after, ..failure })
}
