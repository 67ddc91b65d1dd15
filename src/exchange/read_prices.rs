//! Reads all prices, over the base URLs in turn, and once an hour the list of markets, because a closed market keeps its
//! last price. Sends no key.
//! Depends on neither metrics nor the schedule.

use std::time::Duration;

use super::{
    api_version::ApiVersion,
    base_url::BaseUrl,
    call::{CallContext, CallError, OutgoingCall},
    client::{Client, PriceClient},
    error::Failure,
    failover::{Deadline, HostRotation},
    market_list::MarketList,
    pauses::Caller,
    price::PriceTable,
    read::{ReadOutcome, finish},
    request::Request,
};
use crate::clock::Timestamp;

/// A good answer to the call for prices, without the prices of closed markets.
#[derive(Debug)]
pub struct PricesAnswer {
    /// When its request was sent.
    pub sent: Timestamp,
    /// The prices.
    pub prices: PriceTable,
    /// The list of markets that they were checked against.
    pub market_list: MarketListStatus,
}

/// The list of markets that prices are checked against.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MarketListStatus {
    /// When the request of the list in use was sent; `None` if no list was ever read, so prices are unchecked.
    pub last_success: Option<Timestamp>,
    /// Why this read of the list failed; `None` if it was not due or succeeded.
    pub failure: Option<Failure>,
}

impl Client {
    /// Reads the prices: from the base URL that worked last and, if the host fails, from the others, all within
    /// `timeout`. If the list of markets is due, it is read from the same host in the time that is left; without it,
    /// the last list counts.
    pub async fn read_prices(
        &self,
        prices: &mut PriceClient,
        timeout: Duration,
    ) -> ReadOutcome<PricesAnswer> {
        let mut deadline = Deadline::new(timeout);
        let result = self.read_prices_from_hosts(prices, &mut deadline).await;
        finish(result, &deadline)
    }

    async fn read_prices_from_hosts(
        &self,
        prices: &mut PriceClient,
        deadline: &mut Deadline,
    ) -> Result<PricesAnswer, CallError> {
        let api = prices.hosts.api;
        let bases = prices.hosts.base_urls.clone();
        let mut rotation = HostRotation::new(prices.preferred_host, bases.len(), self.clock.now().monotonic);
        while let Some((host, hosts_left)) = rotation.next(deadline.remaining()) {
            let Some(base) = bases.get(host) else { continue };
            let request = api.prices_request();
            let decode = move |status, body: &[u8]| api.decode_prices(status, body);
            match self.get_unsigned(deadline, base, request, hosts_left, decode).await {
                Ok((sent, table)) => {
                    prices.preferred_host.record_success(host, self.clock.now().monotonic);
                    let failure = self.refresh_market_list(prices, deadline, base, api).await;
                    let list = prices.market_list.last_good();
                    let market_list = MarketListStatus { last_success: list.map(|(sent, _)| *sent), failure };
                    let prices = match list {
                        Some((_, list)) => table.without_closed(|currency| list.is_open(currency)),
                        None => table,
                    };
                    return Ok(PricesAnswer { sent, prices, market_list });
                }
                Err(CallError::Failed(failure)) => rotation.record_failure(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(rotation.into_failure().into())
    }

    /// Reads the list of markets if it is due. Returns the failure; prices do not depend on it.
    async fn refresh_market_list(
        &self,
        prices: &mut PriceClient,
        deadline: &mut Deadline,
        base: &BaseUrl,
        api: ApiVersion,
    ) -> Option<Failure> {
        if !prices.market_list.is_due(self.clock.now()) {
            return None;
        }
        prices.market_list.record_attempt(self.clock.now());
        let decode =
            move |status, body: &[u8]| -> Result<MarketList, Failure> { api.decode_markets(status, body) };
        match self.get_unsigned(deadline, base, api.markets_request(), 1, decode).await {
            Ok((sent, list)) => {
                prices.market_list.record_success(sent, list);
                None
            }
            Err(CallError::Failed(failure)) => Some(failure),
            Err(CallError::Paused | CallError::KeyRefused) => None,
        }
    }

    /// Makes one unsigned call. Returns when it was sent, and the decoded reply.
    async fn get_unsigned<T>(
        &self,
        deadline: &mut Deadline,
        base: &BaseUrl,
        request: Request,
        hosts_left: u32,
        decode: impl FnOnce(u16, &[u8]) -> Result<T, Failure> + Copy + Send + 'static,
    ) -> Result<(Timestamp, T), CallError> {
        let timeout = deadline.call_timeout(base, hosts_left)?;
        let permit = self.permit(deadline, Caller::Anyone, base).await?;
        let (sent, path) = (self.clock.now(), request.path);
        let call = OutgoingCall { caller: Caller::Anyone, base, request, timeout, signed: None };
        let decode_abandoned = move |status, body: Vec<u8>| decode(status, &body).map(drop);
        let (reply, permit) = self.send(permit, call, decode_abandoned).await;
        deadline.spend(sent.age(self.clock.now()));
        let result = {
            let pairs = self.last_sent_keys();
            let secrets: Vec<_> = pairs.values().flat_map(|pair| [pair.access(), pair.secret()]).collect();
            let call = CallContext {
                caller: Caller::Anyone,
                base,
                path,
                secrets: &secrets,
                sent,
                timeout,
                max_cached: timeout,
                date_clock: self.host_clock(base).clock().reading().into(),
            };
            self.check_reply(&call, reply, |status, body| decode(status, &body))
        };
        drop(permit);
        Ok((sent, result?))
    }
}
