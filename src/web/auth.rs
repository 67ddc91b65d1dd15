//! Authentication: checks passwords against bcrypt hashes, and limits the rate of requests (R39).
//! Does not depend on routes, and stores no password.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    fair_queue::{FairQueue, QueueFull, network},
    tls::random_bytes,
};
use crate::clock::MonotonicTime;

/// A check at a higher cost would keep a core busy for more than a minute.
const MAX_BCRYPT_COST: u32 = 20;

/// Users with their passwords, and the rate limit. Without users, no password is needed.
#[derive(Debug)]
pub(super) struct Authenticator {
    users: UserTable,
    rate_limit: Option<RequestRateLimit>,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthRefusal {
    /// The rate limit is exceeded.
    RateLimited,
    /// The user or the password is wrong or missing.
    InvalidCredentials,
    /// Too many passwords are waiting to be checked.
    QueueFull,
}

impl Authenticator {
    /// `users` maps names to bcrypt hashes.
    ///
    /// # Errors
    /// If a hash is invalid or too costly. The text repeats neither name nor hash: either may be a password.
    pub(super) fn new(
        users: BTreeMap<String, String>,
        rate_limit: Option<RequestRateLimit>,
    ) -> Result<Self, String> {
        for hash in users.values() {
            let cost = cost(hash).ok_or_else(|| {
                "basic_auth_users: a password is not a bcrypt hash: create one with `htpasswd -nBC 10 NAME`".to_owned()
            })?;
            if cost > MAX_BCRYPT_COST {
                return Err(format!(
                    "basic_auth_users: a bcrypt hash has cost {cost}, above the maximum of {MAX_BCRYPT_COST}: create one with `htpasswd -nBC 10 NAME`"
                ));
            }
        }
        let by_cost = users.values().filter_map(|hash| Some((cost(hash)?, hash.clone()))).collect();
        let key = random_bytes()
            .ok_or("cannot read random bytes from the system: check that /dev/urandom exists")?;
        let (verified, queue) = (Mutex::default(), Arc::default());
        let users = UserTable { hashes: users, by_cost, key: Zeroizing::new(key), verified, queue };
        Ok(Self { users, rate_limit })
    }

    /// Checks the `Authorization` header of a request from `peer`, then the rate limit.
    /// Only authenticated requests count in the rate limit.
    ///
    /// # Errors
    /// If the request must be rejected.
    pub(super) async fn authenticate(
        &self,
        authorization: Option<&HeaderValue>,
        peer: IpAddr,
        now: MonotonicTime,
    ) -> Result<(), AuthRefusal> {
        if !self.users.hashes.is_empty() {
            let credentials =
                authorization.and_then(BasicCredentials::parse).ok_or(AuthRefusal::InvalidCredentials)?;
            match self.users.verify(credentials, peer).await {
                Ok(true) => {}
                Ok(false) => return Err(AuthRefusal::InvalidCredentials),
                Err(QueueFull) => return Err(AuthRefusal::QueueFull),
            }
        }
        let is_allowed = self.rate_limit.as_ref().is_none_or(|limit| limit.try_acquire(now));
        if is_allowed { Ok(()) } else { Err(AuthRefusal::RateLimited) }
    }

    /// Number of users; 0 if no password is needed.
    pub(super) fn user_count(&self) -> usize {
        self.users.hashes.len()
    }
}

#[derive(Debug)]
struct UserTable {
    /// bcrypt hashes by user.
    hashes: BTreeMap<String, String>,
    /// One hash for each cost.
    by_cost: BTreeMap<u32, String>,
    /// Key of the digests.
    key: Zeroizing<[u8; 32]>,
    /// Digests of correct credentials by user, so that bcrypt runs once for a scraper and not at every scrape. One digest
    /// per user bounds the number: bcrypt reads 72 bytes only, so that many long passwords are correct.
    verified: Mutex<BTreeMap<String, [u8; 32]>>,
    /// One password is checked at a time, because each takes a core.
    queue: Arc<FairQueue>,
}

/// A hash to check a password against.
#[derive(Debug, PartialEq, Eq)]
struct HashAttempt {
    hash: String,
    /// Whether it is the user's hash. Others are checked to take the same time.
    is_own: bool,
}

impl UserTable {
    async fn verify(&self, credentials: BasicCredentials, peer: IpAddr) -> Result<bool, QueueFull> {
        let digest = credentials.digest(&self.key);
        if self.is_verified(&credentials.user, &digest) {
            return Ok(true);
        }
        let slot = self.queue.acquire(network(peer)).await?;
        if self.is_verified(&credentials.user, &digest) {
            return Ok(true);
        }
        let attempts = self.attempts(&credentials.user);
        let password = credentials.password;
        let matching = tokio::task::spawn_blocking(move || {
            // Held here: the check continues if the client disconnects.
            let _slot = slot;
            let matches =
                |attempt: &HashAttempt| matches!(bcrypt::verify(&*password, &attempt.hash), Ok(true));
            attempts.iter().any(|attempt| matches(attempt) && attempt.is_own)
        });
        if !matches!(matching.await, Ok(true)) {
            return Ok(false);
        }
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(credentials.user, digest);
        Ok(true)
    }

    /// The hashes to check a password of `user` against: one of each cost, so that every rejection takes the same time and
    /// does not reveal whether the user exists.
    fn attempts(&self, user: &str) -> Vec<HashAttempt> {
        let own = self.hashes.get(user);
        let own_cost = own.and_then(|hash| cost(hash));
        let own = own.map(|hash| HashAttempt { hash: hash.clone(), is_own: true });
        let others = self.by_cost.iter().filter(|(cost, _)| Some(**cost) != own_cost);
        let others = others.map(|(_, hash)| HashAttempt { hash: hash.clone(), is_own: false });
        own.into_iter().chain(others).collect()
    }

    fn is_verified(&self, user: &str, digest: &[u8; 32]) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(user) == Some(digest)
    }
}

/// A user and a password from a request.
struct BasicCredentials {
    user: String,
    password: Zeroizing<Vec<u8>>,
}

impl BasicCredentials {
    /// Parses an `Authorization` header; `None` unless it is valid basic authentication (RFC 7617).
    fn parse(authorization: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let (user, password) = decoded.split_at_checked(colon)?;
        let password = Zeroizing::new(password.get(1..)?.to_vec());
        Some(Self { user: String::from_utf8(user.to_vec()).ok()?, password })
    }

    /// Equal for the same user and password only. The key of this process makes it useless outside.
    fn digest(&self, key: &[u8; 32]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(key);
        digest.update(self.user.len().to_le_bytes());
        digest.update(&self.user);
        digest.update(&*self.password);
        digest.finalize().into()
    }
}

/// The cost of a bcrypt hash; `None` if `hash` is invalid.
fn cost(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|parts| parts.get_cost()).filter(|cost| (4..=31).contains(cost))
}

/// A burst of requests, then one per interval (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct RequestRateLimit {
    interval: Duration,
    /// How far a request may be ahead of `next_arrival`.
    tolerance: Duration,
    /// When the next request is due if all requests are an interval apart; `None` before the first.
    next_arrival: Mutex<Option<MonotonicTime>>,
}

impl RequestRateLimit {
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        let tolerance = interval.saturating_mul(burst.saturating_sub(1));
        Self { interval, tolerance, next_arrival: Mutex::default() }
    }

    fn try_acquire(&self, now: MonotonicTime) -> bool {
        let mut next_arrival = self.next_arrival.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next_arrival.unwrap_or(now);
        if due > now + self.tolerance {
            return false;
        }
        *next_arrival = Some(due.max(now) + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    /// The hash of `hunter2` at the lowest cost, from Python's bcrypt.
    const HASH: &str = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn authenticator(users: &[(&str, &str)]) -> Result<Authenticator, String> {
        let users = users.iter().map(|(user, hash)| ((*user).to_owned(), (*hash).to_owned()));
        Authenticator::new(users.collect(), None)
    }

    async fn accepts(authenticator: &Authenticator, authorization: &str) -> bool {
        let value = HeaderValue::from_str(authorization).ok();
        authenticator.authenticate(value.as_ref(), PEER, MonotonicTime::START).await.is_ok()
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_accepted() -> Result<(), String> {
        let authenticator =
            authenticator(&[("alice", HASH), ("b:b", &HASH.replace("$2b$", "$2y$")), ("c", HASH)])?;
        let good =
            [basic("alice:hunter2"), basic("c:hunter2"), basic("alice:hunter2").replace("Basic", "bAsIc")];
        for good in &good {
            for _ in 0..2 {
                assert!(accepts(&authenticator, good).await, "{good}");
            }
        }
        let verified = || authenticator.users.verified.lock().map_or(0, |verified| verified.len());
        assert_eq!(verified(), 2, "each password is checked once");
        let bad = [
            basic("alice:hunter3"),
            basic("alice:"),
            basic("alice"),
            basic("bob:hunter2"),
            basic(":hunter2"),
            basic("alic:ehunter2"),
            // A colon ends the user, so this user can never log in.
            basic("b:b:hunter2"),
            basic("alice:hunter2").replace("Basic", "Bearer"),
            basic("alice:hunter2").replace("Basic ", "Basic"),
            "Basic ===".to_owned(),
            String::new(),
        ];
        for bad in &bad {
            assert!(!accepts(&authenticator, bad).await, "{bad}");
        }
        assert_eq!(
            authenticator.authenticate(None, PEER, MonotonicTime::START).await,
            Err(AuthRefusal::InvalidCredentials)
        );
        assert_eq!(verified(), 2, "rejected credentials are not stored");
        Ok(())
    }

    #[test]
    fn a_disconnected_client_does_not_allow_a_second_check_beside_its_own()
    -> Result<(), Box<dyn std::error::Error>> {
        // Some seconds of work.
        let authenticator = authenticator(&[("alice", &HASH.replace("$04$", "$14$"))])?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let wrong = basic("alice:hunter3");
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = accepts(&authenticator, &wrong) => {}
                () = std::future::ready(()) => {}
            }
        });
        let other = basic("alice:hunter4");
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = accepts(&authenticator, &other) => panic!("the second check did not wait"),
                () = std::future::ready(()) => {}
            }
        });
        runtime.shutdown_background();
        Ok(())
    }

    #[test]
    fn every_rejection_checks_one_hash_of_each_cost_whether_the_user_exists_or_not() -> Result<(), String> {
        let costly = HASH.replace("$04$", "$06$");
        let authenticator = authenticator(&[("alice", HASH), ("bob", &costly), ("carol", HASH)])?;
        for (user, own) in
            [("alice", Some(4)), ("bob", Some(6)), ("carol", Some(4)), ("mallory", None), ("", None)]
        {
            let attempts = authenticator.users.attempts(user);
            let mut costs: Vec<_> = attempts.iter().filter_map(|attempt| cost(&attempt.hash)).collect();
            costs.sort_unstable();
            assert_eq!(costs, [4, 6], "{user}");
            let owned: Vec<_> =
                attempts.iter().filter(|attempt| attempt.is_own).map(|own| cost(&own.hash)).collect();
            assert_eq!(owned, own.map(Some).into_iter().collect::<Vec<_>>(), "{user}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_verified_password_does_not_wait_and_rejected_requests_do_not_count() -> Result<(), String> {
        let limit = Some(RequestRateLimit::new(Duration::from_hours(1), 2));
        let authenticator = Authenticator::new([("alice".to_owned(), HASH.to_owned())].into(), limit)?;
        let (good, bad) = (basic("alice:hunter2"), basic("alice:hunter3"));
        for _ in 0..5 {
            assert!(!accepts(&authenticator, &bad).await);
        }
        assert!(accepts(&authenticator, &good).await, "the rate limit is untouched");
        let other_check = authenticator.users.queue.acquire(PEER).await;
        assert!(
            other_check.is_ok() && accepts(&authenticator, &good).await,
            "while another password is checked"
        );
        assert!(!accepts(&authenticator, &good).await, "the burst is 2");
        Ok(())
    }

    #[tokio::test]
    async fn without_users_no_password_is_needed() -> Result<(), String> {
        let authenticator = authenticator(&[])?;
        assert!(accepts(&authenticator, &basic("any:thing")).await);
        assert_eq!(authenticator.authenticate(None, PEER, MonotonicTime::START).await, Ok(()));
        Ok(())
    }

    #[test]
    fn an_invalid_hash_is_rejected_and_not_repeated() {
        let costly = HASH.replace("$04$", "$21$");
        let cheap = HASH.replace("$04$", "$03$");
        for (given, why) in [
            ("hunter2", "is not a bcrypt hash"),
            ("", "is not a bcrypt hash"),
            (HASH.get(1..).unwrap_or_default(), "is not a bcrypt hash"),
            (HASH.get(..59).unwrap_or_default(), "is not a bcrypt hash"),
            (&*cheap, "is not a bcrypt hash"),
            (&*costly, "has cost 21, above the maximum of 20"),
        ] {
            let error = authenticator(&[("alice", given)]).err().unwrap_or_default();
            assert!(
                error.contains(why) && error.contains("basic_auth_users") && error.contains("htpasswd"),
                "{error}"
            );
            assert!(!error.contains("alice") && (given.is_empty() || !error.contains(given)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_rate_limit_allows_a_burst_and_then_one_request_per_interval() -> Result<(), String> {
        let limit = RequestRateLimit::new(Duration::from_secs(10), 3);
        let authenticator = Authenticator::new(BTreeMap::new(), Some(limit))?;
        let mut results = String::new();
        for second in [0, 0, 0, 0, 9, 10, 10, 19, 20, 1000, 1000, 1000, 1000, 1010] {
            results.push(if authenticator.authenticate(None, PEER, at(second).monotonic).await.is_ok() {
                '.'
            } else {
                'x'
            });
        }
        assert_eq!(results, "...xx.xx....x.");
        Ok(())
    }
}
