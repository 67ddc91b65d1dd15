//! Reads the exchange's clock when a reading is due, and again after a refusal that a wrong clock may have caused.
//! [`ServerClock`] decides which readings to trust; this file makes the calls.

use std::{sync::Arc, time::Duration};

use super::{
    api_version::Endpoint,
    balance::Wallet,
    base_url::BaseUrl,
    call::{CallContext, CallError, DateClock, OutgoingCall},
    client::{Client, HostClock, Session},
    error::{Failure, Reason},
    failover::Deadline,
    server_clock::{self, ClockReading, ServerClock},
};

/// Maximum time that a read waits while another read asks the same host for its time. Then it continues with the
/// stored clock.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// A host that a read tries.
#[derive(Clone, Copy)]
pub(super) struct HostAttempt<'a> {
    pub base: &'a BaseUrl,
    pub wallet: Wallet,
    pub endpoint: Endpoint<'a>,
    /// The number of hosts still to try, this one included. They share the time that is left.
    pub hosts_left: u32,
}

impl HostAttempt<'_> {
    /// The base URL whose clock stamps its calls: its own, except that futures hosts do not tell the time. The spot
    /// hosts of the same exchange do.
    fn clock_base(&self, session: &Session) -> BaseUrl {
        let is_futures = matches!(self.endpoint, Endpoint::Futures | Endpoint::Positions);
        let spot = session.hosts.base_urls.first().filter(|_| is_futures);
        spot.unwrap_or(self.base).clone()
    }
}

impl Client {
    /// Asks `base` for its time. Returns how far its clock is ahead of this machine's, in seconds.
    ///
    /// # Errors
    /// The failure of the call, or the pause of the session's account.
    pub async fn measure_skew(
        &self,
        session: &Session,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<f64, Failure> {
        match self.read_clock(session, &mut Deadline::new(timeout), base, timeout).await {
            Ok(reading) => Ok(reading.skew_seconds(self.clock.now())),
            Err(CallError::Failed(failure)) => Err(failure),
            Err(CallError::Paused | CallError::KeyRefused) => {
                let rest = self
                    .pause(session)
                    .map(|paused| paused.until.saturating_duration_since(self.clock.now().monotonic));
                let minutes = rest.unwrap_or_default().as_secs().div_ceil(60);
                let text =
                    format!("nothing was sent: a limit reply pauses the account for another {minutes} min");
                Err(Failure::new(Reason::RateLimited, text))
            }
        }
    }

    /// Reads the clock that stamps the calls of `attempt`, if that is due, and returns it.
    ///
    /// # Errors
    /// If the host's own clock cannot be read because of the host. A host without that endpoint is not an error, and
    /// neither is a failure of another host's clock: the calls go by the stored clock then.
    pub(super) async fn sync_clock(
        &self,
        session: &Session,
        deadline: &mut Deadline,
        attempt: &HostAttempt<'_>,
    ) -> Result<Arc<HostClock>, CallError> {
        let clock_base = attempt.clock_base(session);
        let is_own = clock_base == *attempt.base;
        let host = self.host_clock(&clock_base);
        if !host.clock().is_due(self.clock.now()) {
            return Ok(host);
        }
        // Other reads of the same host wait here and use the new reading, or share the failure: if each waited for a
        // silent host in turn, the last would wait for hours. But the wait is short, because the reader may itself
        // wait for a permit, and the stored clock is good enough.
        let waiting_since = self.clock.now().monotonic;
        let locked = tokio::time::timeout(CLOCK_WAIT_MAX, host.last_failure.lock()).await;
        let Ok(mut last_failure) = locked else { return Ok(Arc::clone(&host)) };
        if !host.clock().is_due(self.clock.now()) {
            return Ok(Arc::clone(&host));
        }
        if let Some((_, failure)) = last_failure.as_ref().filter(|(at, _)| is_own && *at >= waiting_since) {
            return Err(failure.clone().into());
        }
        // Another host's clock may use half of the time, because the call itself is still to come.
        let shares = if is_own { attempt.hosts_left } else { attempt.hosts_left.saturating_mul(2) };
        let timeout = deadline.call_timeout(attempt.base, shares)?;
        let failure = match self.read_clock(session, deadline, &clock_base, timeout).await {
            Ok(_) => return Ok(Arc::clone(&host)),
            Err(CallError::Failed(failure)) if failure.reason != Reason::RateLimited => failure,
            Err(stop) => return Err(stop),
        };
        // A cache or a firewall may spoil the time alone and let the balances through: then the read continues. A
        // firewall's reply is not a host fault by its reason.
        if is_own && failure.reason.is_host_fault() && failure.reason != Reason::Cached {
            *last_failure = Some((self.clock.now().monotonic, failure.clone()));
            return Err(failure.into());
        }
        host.clock().record_failure(self.clock.now());
        drop(last_failure);
        tracing::warn!(
            host = clock_base.host(),
            reason = failure.reason.label(),
            "cannot read the exchange's clock, so requests go by the last reading or by this machine's clock: {}",
            failure.text
        );
        Ok(Arc::clone(&host))
    }

    /// Reads the exchange's clock again after a refusal, at most once in 30 seconds, unless another read has done so
    /// since. Returns whether the clock differs from `used`, which stamped the refused call.
    pub(super) async fn resync_after_refusal(
        &self,
        session: &Session,
        deadline: &mut Deadline,
        attempt: &HostAttempt<'_>,
        used: &ServerClock,
    ) -> bool {
        let host = self.host_clock(&attempt.clock_base(session));
        let has_moved = || self.stamping_clock(session, &host).has_moved_since(used, self.clock.now());
        if has_moved() {
            return true;
        }
        if host.clock().request_recheck(self.clock.now()) {
            // A clock that cannot be read has not moved.
            let _ = self.sync_clock(session, deadline, attempt).await;
        }
        has_moved()
    }

    /// Reads the clock of `base` and stores it. A reading far from the expected time is confirmed by a second one.
    async fn read_clock(
        &self,
        session: &Session,
        deadline: &mut Deadline,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<ClockReading, CallError> {
        let host = self.host_clock(base);
        let first = self.request_time(session, deadline, base, timeout).await?;
        let mut reading = first;
        if host.clock().contradicts(&first) {
            tokio::time::sleep(server_clock::CONFIRM_AFTER).await;
            let timeout = timeout.min(deadline.call_timeout(base, 1)?);
            reading = self.request_time(session, deadline, base, timeout).await?;
            if !host.clock().is_confirmed_by(&first, &reading) {
                let text =
                    format!("{base}: two readings of its clock in a row do not agree: neither is used");
                return Err(Failure::new(Reason::Clock, text).into());
            }
        }
        host.clock().store(reading, self.clock.now());
        Ok(reading)
    }

    /// Asks `base` for its time once.
    async fn request_time(
        &self,
        session: &Session,
        deadline: &mut Deadline,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<ClockReading, CallError> {
        let api = session.hosts.api;
        let (request, caller) = (api.server_time_request(), session.caller());
        let path = request.path;
        let permit = self.permit(deadline, caller, base).await?;
        let sent = self.clock.now();
        let call = OutgoingCall { caller, base, request, timeout, signed: None };
        let decode = move |status, body: Vec<u8>| api.decode_server_time(status, &body).map(drop);
        let (reply, permit) = self.send(permit, call, decode).await;
        let received = self.clock.now();
        deadline.spend(sent.age(received));
        let pair = session.credentials.pair();
        let call = CallContext {
            caller,
            base,
            path,
            // The call is not signed, but the server may echo the key of an earlier call.
            secrets: &[pair.access(), pair.secret()],
            sent,
            timeout,
            max_cached: timeout,
            date_clock: DateClock::Unchecked,
        };
        let date = reply.as_ref().ok().and_then(|reply| reply.date);
        let time = self.check_reply(&call, reply, |status, body| api.decode_server_time(status, &body));
        drop(permit);
        Ok(ClockReading::new(time?, sent, received).with_date(date))
    }

    /// The clock that stamps calls to `host`. If that was never read, the clock of another host of the session: this
    /// machine's clock, if it is fast, would make a nonce that no later one can follow.
    pub(super) fn stamping_clock(&self, session: &Session, host: &HostClock) -> ServerClock {
        let own = *host.clock();
        let others = session.hosts.base_urls.iter().map(|base| *self.host_clock(base).clock());
        let known = std::iter::once(own).chain(others).find(|clock| clock.reading().is_some());
        known.unwrap_or(own)
    }
}
