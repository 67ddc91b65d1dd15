//! Reads one wallet: over the base URLs in turn, with a new key pair first, and with a fresh clock.
//! Depends on neither metrics nor the schedule.

use std::{sync::Arc, time::Duration};

use smol_str::SmolStr;

use super::{
    api_version::Endpoint,
    balance::{BalanceAnswer, RawBody, Wallet},
    call::{CallContext, CallError, OutgoingCall},
    client::{Client, HostClock, Session},
    clock_sync::HostAttempt,
    error::{Detail, Failure, Reason},
    failover::Deadline,
    position::PositionAnswer,
    server_clock::{ClockReading, ServerClock},
};
use crate::clock::{MonotonicTime, Timestamp};

/// The wallet to read, and the limits of the read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest<'a> {
    /// The wallet.
    pub wallet: Wallet,
    /// The last good answer; an equal one is not decoded again.
    pub last_body: Option<&'a RawBody>,
    /// Maximum time of all calls of the read together.
    pub timeout: Duration,
    /// The index of a base URL to leave out, because another one must confirm its answer.
    pub excluded_host: Option<usize>,
    /// Currencies that are asked for one by one if the list of v4 spot leaves them out, sorted.
    pub watched: &'a [SmolStr],
}

/// The outcome of a read.
#[derive(Debug)]
pub enum ReadOutcome<T> {
    /// A good answer.
    Answered(T),
    /// No good answer, and why.
    Failed(Failure),
    /// Nothing was sent: the account is paused, or the exchange refused its key to another account while the read
    /// waited. That is not a failed poll.
    Skipped,
}

/// A finished read of a wallet or of its positions.
#[derive(Debug)]
pub struct SessionRead<T> {
    /// The outcome.
    pub outcome: ReadOutcome<T>,
    /// The duration of its calls, without the time it waited for permits.
    pub took: Duration,
    /// The clocks that the calls used, by host, if they were ever read.
    pub clocks: Vec<(String, ClockReading)>,
    /// Whether a new key pair has worked and is now in use.
    pub rotated: bool,
}

/// A good answer, and the base URL that gave it.
#[derive(Debug)]
pub struct ReadAnswer {
    /// When its request was sent. Its age counts from here.
    pub sent: Timestamp,
    /// The index of the base URL that gave it.
    pub host: usize,
    /// The answer; `None` if its body equals the last one.
    pub answer: Option<BalanceAnswer>,
}

/// A good answer to the call for positions.
#[derive(Debug)]
pub struct PositionsRead {
    /// When its request was sent. Its age counts from here.
    pub sent: Timestamp,
    /// The positions.
    pub answer: PositionAnswer,
}

/// A decoded answer.
enum Decoded {
    /// `None` if the body equals the last one.
    Balances(Option<BalanceAnswer>),
    Positions(PositionAnswer),
}

/// The state of one read.
struct ReadState<'a> {
    session: &'a mut Session,
    last_body: Option<&'a RawBody>,
    watched: &'a [SmolStr],
    began: MonotonicTime,
    deadline: Deadline,
    /// The hosts whose clocks stamped its calls.
    clocks: Vec<Arc<HostClock>>,
    /// The clock that stamped the last signed call.
    used_clock: ServerClock,
}

impl ReadState<'_> {
    /// Records that a call was stamped by the clock of `host`.
    fn record_clock(&mut self, host: &Arc<HostClock>) {
        if !self.clocks.iter().any(|known| Arc::ptr_eq(known, host)) {
            self.clocks.push(Arc::clone(host));
        }
    }
}

impl Client {
    /// Reads a wallet: from the base URL that worked last and, if the host fails, from the others, each with a new
    /// signature.
    pub async fn read(&self, session: &mut Session, request: ReadRequest<'_>) -> SessionRead<ReadAnswer> {
        let endpoint = Endpoint::new(session.hosts.api, request.wallet);
        let mut read = self.read_endpoint(session, request, endpoint).await;
        read.rotated =
            matches!(read.outcome, ReadOutcome::Answered(_)) && session.credentials.record_success();
        read.map(|(sent, host, decoded)| match decoded {
            Decoded::Balances(answer) => ReadOutcome::Answered(ReadAnswer { sent, host, answer }),
            Decoded::Positions(_) => ReadOutcome::Skipped,
        })
    }

    /// Reads the open positions of a wallet in the same way. A refusal neither blocks the key for the wallet nor makes
    /// the read try another key pair, because the key may only lack this permission.
    pub async fn read_positions(
        &self,
        session: &mut Session,
        wallet: Wallet,
        timeout: Duration,
    ) -> SessionRead<PositionsRead> {
        let endpoint = Endpoint::positions(session.hosts.api, wallet);
        let request = ReadRequest { wallet, last_body: None, timeout, excluded_host: None, watched: &[] };
        let read = self.read_endpoint(session, request, endpoint).await;
        read.map(|(sent, _, decoded)| match decoded {
            Decoded::Positions(answer) => ReadOutcome::Answered(PositionsRead { sent, answer }),
            Decoded::Balances(_) => ReadOutcome::Skipped,
        })
    }

    async fn read_endpoint(
        &self,
        session: &mut Session,
        request: ReadRequest<'_>,
        endpoint: Option<Endpoint<'static>>,
    ) -> SessionRead<(Timestamp, usize, Decoded)> {
        let mut state = ReadState {
            session,
            last_body: request.last_body,
            watched: request.watched,
            began: self.clock.now().monotonic,
            deadline: Deadline::new(request.timeout),
            clocks: Vec::new(),
            used_clock: ServerClock::default(),
        };
        let result = self.read_from_hosts(&mut state, request, endpoint).await;
        let outcome = finish(result, &state.deadline);
        let took = state.deadline.spent().unwrap_or_default();
        let clocks = state.clocks.iter();
        let clocks = clocks.filter_map(|host| Some((host.name.clone(), host.clock().reading()?))).collect();
        SessionRead { outcome, took, clocks, rotated: false }
    }

    /// Returns when the request was sent, the index of the base URL that answered, and the answer.
    async fn read_from_hosts(
        &self,
        state: &mut ReadState<'_>,
        request: ReadRequest<'_>,
        endpoint: Option<Endpoint<'static>>,
    ) -> Result<(Timestamp, usize, Decoded), CallError> {
        let wallet = request.wallet;
        let Some(endpoint) = endpoint else {
            let api = state.session.hosts.api.label();
            let text = format!("API {api} does not have this of wallet {wallet}: nothing was asked");
            return Err(Failure::new(Reason::Api, text).into());
        };
        let bases = state.session.hosts.for_wallet(wallet).to_vec();
        let now = self.clock.now().monotonic;
        let mut rotation = state.session.host_rotation(wallet, request.excluded_host, now);
        while let Some((host, hosts_left)) = rotation.next(state.deadline.remaining()) {
            let Some(base) = bases.get(host) else { continue };
            match self.read_from(state, &HostAttempt { base, wallet, endpoint, hosts_left }).await {
                Ok((sent, decoded)) => {
                    if request.excluded_host.is_none() {
                        state.session.record_success(wallet, host, self.clock.now().monotonic);
                    }
                    return Ok((sent, host, decoded));
                }
                Err(CallError::Failed(failure)) => rotation.record_failure(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(rotation.into_failure().into())
    }

    /// Reads from one base URL. If there is a new key pair, it is tried before the one in use.
    async fn read_from(
        &self,
        state: &mut ReadState<'_>,
        attempt: &HostAttempt<'_>,
    ) -> Result<(Timestamp, Decoded), CallError> {
        let host = self.sync_clock(state.session, &mut state.deadline, attempt).await;
        let host = host.map_err(|error| match error {
            CallError::Failed(failure) => CallError::Failed(Failure { is_of_clock_sync: true, ..failure }),
            error => error,
        })?;
        loop {
            let result = self.read_whole(state, attempt, &host).await;
            let Err(CallError::Failed(failure)) = &result else { return result };
            if failure.reason.may_be_clock_fault() {
                let (session, used) = (&*state.session, state.used_clock);
                if self.resync_after_refusal(session, &mut state.deadline, attempt, &used).await {
                    if attempt.endpoint.judges_key() {
                        // The key may be a good one.
                        let pair = state.session.credentials.pair().pair_id();
                        self.limits.forget_refusal(pair, attempt.wallet);
                    }
                    continue;
                }
            }
            let credentials = &mut state.session.credentials;
            let other_pair_may_work = match failure.reason {
                _ if !attempt.endpoint.judges_key() => false,
                // The pair in use is good, and stays the one to return to.
                _ if failure.detail == Some(Detail::NoEarnPermission) => {
                    credentials.record_possible_refusal()
                }
                reason if reason.is_key_fault() => credentials.record_refusal(),
                // The exchange may refuse a key in an undocumented way.
                Reason::Http | Reason::Api | Reason::Decode => credentials.record_possible_refusal(),
                _ => false,
            };
            if !other_pair_may_work {
                return result;
            }
        }
    }

    /// Reads positions, or a list of balances and one by one the watched currencies that it leaves out. The answer is as old as the list.
    async fn read_whole(
        &self,
        state: &mut ReadState<'_>,
        attempt: &HostAttempt<'_>,
        host: &Arc<HostClock>,
    ) -> Result<(Timestamp, Decoded), CallError> {
        let (endpoint, last_body) = (attempt.endpoint, state.last_body);
        if let Endpoint::Positions = endpoint {
            let decode = |status: u16, body: Vec<u8>| endpoint.decode_positions(status, &body);
            let (sent, answer) = self.call_signed(state, attempt, host, decode).await?;
            return Ok((sent, Decoded::Positions(answer)));
        }
        let decode = |status: u16, body: Vec<u8>| {
            if last_body.is_some_and(|last| last.equals(status, &body)) {
                return Ok(None);
            }
            let answer = endpoint.decode_balances(status, &body)?;
            Ok(Some(BalanceAnswer { raw_body: Some(RawBody::new(status, body)), ..answer }))
        };
        let (sent, mut answer) = self.call_signed(state, attempt, host, decode).await?;
        if let Some(answer) = &mut answer
            && endpoint.has_single_reads()
        {
            self.complete(state, attempt, host, answer).await?;
        }
        Ok((sent, Decoded::Balances(answer)))
    }

    /// Asks for each watched currency that is missing from `answer`, unless the account had none of it within the last hour.
    /// What was answered before a failure is not asked for again by the next read.
    async fn complete(
        &self,
        state: &mut ReadState<'_>,
        attempt: &HostAttempt<'_>,
        host: &Arc<HostClock>,
        answer: &mut BalanceAnswer,
    ) -> Result<(), CallError> {
        state.session.single_reads.forget_listed(answer);
        for currency in state.watched {
            let now = self.clock.now().monotonic;
            if !answer.is_missing(currency) || !state.session.single_reads.is_due(currency, now) {
                continue;
            }
            let Some(endpoint) = attempt.endpoint.single(currency) else { continue };
            let attempt = HostAttempt { endpoint, ..*attempt };
            let decode = |status: u16, body: Vec<u8>| endpoint.decode_balances(status, &body);
            let (_, single) = self.call_signed(state, &attempt, host, decode).await?;
            state.session.single_reads.record(currency, !single.unlisted.is_empty(), now);
            answer.unlisted.extend(single.unlisted);
        }
        Ok(())
    }

    /// Makes one signed call.
    async fn call_signed<T>(
        &self,
        state: &mut ReadState<'_>,
        attempt: &HostAttempt<'_>,
        host: &Arc<HostClock>,
        decode: impl FnOnce(u16, Vec<u8>) -> Result<T, Failure>,
    ) -> Result<(Timestamp, T), CallError> {
        let HostAttempt { base, wallet, endpoint, hosts_left } = *attempt;
        let pair = state.session.credentials.pair().clone();
        let timeout = state.deadline.call_timeout(base, hosts_left)?;
        let mut permit = self.permit(&mut state.deadline, state.session.caller(), base).await?;
        if self.limits.auth_backoff().was_refused_since(pair.pair_id(), wallet, state.began) {
            return Err(CallError::KeyRefused);
        }
        let sent = self.clock.now();
        let clock = self.stamping_clock(state.session, host);
        let time_ms = if endpoint.needs_nonce() {
            permit.limiter.next_nonce(&base.host(), clock.time_ms(sent))
        } else {
            clock.signing_time_ms(sent)
        };
        let request = endpoint.sign(&pair, time_ms);
        let path = request.path;
        self.last_sent_keys().insert(state.session.account.clone(), pair.clone());
        let signed = endpoint.judges_key().then(|| (pair.pair_id(), wallet));
        let call = OutgoingCall { caller: state.session.caller(), base, request, timeout, signed };
        let unawaited = endpoint.without_currency();
        let judge = move |status, body: Vec<u8>| unawaited.judge(status, &body);
        let (reply, mut permit) = self.send(permit, call, judge).await;
        state.deadline.spend(sent.age(self.clock.now()));
        state.record_clock(host);
        state.used_clock = clock;
        let call = CallContext {
            caller: state.session.caller(),
            base,
            path,
            secrets: &[pair.access(), pair.secret()],
            sent,
            timeout,
            max_cached: endpoint.max_cache_age(timeout),
            date_clock: clock.reading().into(),
        };
        let result = self.check_reply(&call, reply, decode);
        if endpoint.judges_key() {
            self.limits.record_key_result(pair.pair_id(), wallet, &result);
        }
        let may_be_clock_fault =
            |failure: &Failure| failure.reason.may_be_clock_fault() && failure.reason != Reason::Cached;
        if result.as_ref().is_err_and(may_be_clock_fault) {
            permit.limiter.release_nonce();
        }
        // Held until the reply is understood: no other call may start before a pause.
        drop(permit);
        Ok((sent, result?))
    }
}

impl<T> SessionRead<T> {
    /// The same read with the outcome that `change` makes of an answer.
    fn map<U>(self, change: impl FnOnce(T) -> ReadOutcome<U>) -> SessionRead<U> {
        let Self { outcome, took, clocks, rotated } = self;
        let outcome = match outcome {
            ReadOutcome::Answered(answer) => change(answer),
            ReadOutcome::Failed(failure) => ReadOutcome::Failed(failure),
            ReadOutcome::Skipped => ReadOutcome::Skipped,
        };
        SessionRead { outcome, took, clocks, rotated }
    }
}

/// The public outcome of a read.
pub(super) fn finish<T>(result: Result<T, CallError>, deadline: &Deadline) -> ReadOutcome<T> {
    match result {
        Ok(answer) => ReadOutcome::Answered(answer),
        Err(CallError::Failed(failure)) => ReadOutcome::Failed(failure),
        Err(CallError::KeyRefused) => ReadOutcome::Skipped,
        Err(CallError::Paused) if deadline.spent().is_none() => ReadOutcome::Skipped,
        // The first call's failure is lost: the pause began before a second call could be made.
        Err(CallError::Paused) => {
            let text = "stopped halfway: all accounts were paused after limit replies";
            ReadOutcome::Failed(Failure::new(Reason::RateLimited, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        clock::{Clock, UnixTime, simulated},
        exchange::{
            api_version::ApiVersion,
            base_url::BaseUrl,
            client::PriceClient,
            credentials::{Credentials, KeyHalf, KeySource},
            exchange_hosts::ExchangeHosts,
            secret::Secret,
            transport::{Script, ScriptedResponse},
            v1,
        },
    };

    fn session() -> Session {
        let half = || {
            let secret = Secret::new(&Zeroizing::new("key".to_owned()));
            KeyHalf::Given(secret.unwrap_or_else(|why| panic!("{why}")))
        };
        let credentials = Credentials::open(KeySource { access: half(), secret: half() }, UnixTime::EPOCH);
        let base = BaseUrl::parse("https://host.test").unwrap_or_else(|why| panic!("{why}"));
        let hosts = ExchangeHosts { api: ApiVersion::V1, base_urls: vec![base], ..ExchangeHosts::default() };
        Session::new("main".into(), hosts, credentials.unwrap_or_else(|why| panic!("{why}")))
    }

    /// An exchange whose machine is suspended for this long while its answers to calls of `path` lie in the socket.
    fn answering(path: &'static str, asleep: Duration, clock: Clock) -> Client {
        let script = Script(Box::new(move |asked| {
            Box::pin(async move {
                if asked.path == path {
                    simulated::suspend(asleep);
                }
                let body: &[u8] = match asked.path.as_str() {
                    v1::SERVER_TIME_PATH => br#"{"code":200,"data":{"serverTime":1700000000000}}"#,
                    v1::PRICES_PATH => br#"{"btc_usdt":{"price":5}}"#,
                    _ => br#"{"code":200,"data":{"usdt":{"available":"5","freeze":"0"}}}"#,
                };
                Ok(ScriptedResponse { status: 200, retry_after: None, body: body.to_vec() })
            })
        }));
        Client::scripted(script, clock)
    }

    fn failure_reason<T>(outcome: ReadOutcome<T>) -> Option<Reason> {
        match outcome {
            ReadOutcome::Answered(_) => None,
            ReadOutcome::Failed(failure) => Some(failure.reason),
            ReadOutcome::Skipped => panic!("the read was skipped"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_lay_in_the_socket_while_the_machine_slept_is_dropped() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let balances = "/trade/api/v1/getBalance";
        for (asleep, reason) in [(TIMEOUT, None), (Duration::from_hours(8), Some(Reason::Timeout))] {
            for path in [balances, v1::SERVER_TIME_PATH] {
                simulated::start();
                let exchange = answering(path, asleep, Clock::start());
                let request = ReadRequest {
                    wallet: Wallet::Spot,
                    last_body: None,
                    timeout: TIMEOUT,
                    excluded_host: None,
                    watched: &[],
                };
                let outcome = exchange.read(&mut session(), request).await.outcome;
                // A slow answer about the time leaves none for the balances.
                let expected = if path == balances { reason } else { Some(Reason::Timeout) };
                assert_eq!(failure_reason(outcome), expected, "{path} {asleep:?}");
            }
            simulated::start();
            let exchange = answering(v1::PRICES_PATH, asleep, Clock::start());
            let outcome = exchange.read_prices(&mut PriceClient::new(session().hosts), TIMEOUT).await;
            assert_eq!(failure_reason(outcome), reason, "prices {asleep:?}");
        }
    }
}
