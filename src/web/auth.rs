//! Who may ask, and how often: passwords held against bcrypt hashes, and a limit of requests (R39).
//! Knows no route, and keeps no password.

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
use crate::quoting::quote_short;

/// Above this, one password would keep a core busy for more than a minute.
const MAX_BCRYPT_COST: u32 = 20;

/// Who may ask, and how often. Without users, whoever comes.
#[derive(Debug)]
pub(super) struct Authenticator {
    users: UserTable,
    limit: Option<RequestRateLimit>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthRefusal {
    /// More requests than the limit allows.
    TooMany,
    /// Not with a user and password that are known.
    Unknown,
    /// Too many other passwords wait to be checked.
    Busy,
}

impl Authenticator {
    /// For users with their bcrypt hashes, and so many requests.
    ///
    /// # Errors
    /// A sentence that names the user, if what is given for a hash is none. It does not show it: it
    /// may be the password.
    pub(super) fn new(
        users: BTreeMap<String, String>,
        limit: Option<RequestRateLimit>,
    ) -> Result<Self, String> {
        for (user, hash) in &users {
            let cost = cost(hash).ok_or_else(|| {
                format!(
                    "basic_auth_users: the password of user {} is no bcrypt hash: make one with `htpasswd -nBC 10 NAME`",
                    quote_short(user)
                )
            })?;
            if cost > MAX_BCRYPT_COST {
                return Err(format!(
                    "basic_auth_users: the hash of user {} has a cost of {cost} and {MAX_BCRYPT_COST} is the most that can be waited for: make one with `htpasswd -nBC 10 NAME`",
                    quote_short(user)
                ));
            }
        }
        let by_cost = users.values().filter_map(|hash| Some((cost(hash)?, hash.clone()))).collect();
        let key = random_bytes().ok_or("the system has no random bytes: is /dev/urandom there?")?;
        let (proven, queue) = (Mutex::default(), Arc::default());
        let users = UserTable { hashes: users, by_cost, key: Zeroizing::new(key), proven, queue };
        Ok(Self { users, limit })
    }

    /// Whether a request of a client at `peer` with this `Authorization` is answered at `now`, on a clock that nobody
    /// sets. Only requests that may be answered count in the limit.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn authenticate(
        &self,
        authorization: Option<&HeaderValue>,
        peer: IpAddr,
        now: Duration,
    ) -> Result<(), AuthRefusal> {
        if !self.users.hashes.is_empty() {
            let credentials = authorization.and_then(BasicCredentials::read).ok_or(AuthRefusal::Unknown)?;
            match self.users.verify(credentials, peer).await {
                Ok(true) => {}
                Ok(false) => return Err(AuthRefusal::Unknown),
                Err(QueueFull) => return Err(AuthRefusal::Busy),
            }
        }
        let is_allowed = self.limit.as_ref().is_none_or(|limit| limit.allows(now));
        if is_allowed { Ok(()) } else { Err(AuthRefusal::TooMany) }
    }

    /// How many users may ask; 0 if whoever comes may.
    pub(super) fn users(&self) -> usize {
        self.users.hashes.len()
    }
}

#[derive(Debug)]
struct UserTable {
    /// bcrypt hashes of passwords, by user.
    hashes: BTreeMap<String, String>,
    /// One hash of each cost there is.
    by_cost: BTreeMap<u32, String>,
    /// The key of the digests.
    key: Zeroizing<[u8; 32]>,
    /// Digests of the credentials that were found right, by user: a scraper's password is put through bcrypt once, not
    /// every few seconds. One for each user: of a long password bcrypt reads the first 72 bytes only, so that many are
    /// right.
    proven: Mutex<BTreeMap<String, [u8; 32]>>,
    /// One password is put through bcrypt at a time: it takes a core.
    queue: Arc<FairQueue>,
}

/// A hash that a password is held against.
#[derive(Debug, PartialEq, Eq)]
struct HashAttempt {
    hash: String,
    /// Whether it is the user's, and not there to take the time of one.
    is_own: bool,
}

impl UserTable {
    async fn verify(&self, credentials: BasicCredentials, peer: IpAddr) -> Result<bool, QueueFull> {
        let digest = credentials.digest(&self.key);
        if self.is_proven(&credentials.user, &digest) {
            return Ok(true);
        }
        let turn = self.queue.acquire(network(peer)).await?;
        if self.is_proven(&credentials.user, &digest) {
            return Ok(true);
        }
        let attempts = self.attempts(&credentials.user);
        let password = credentials.password;
        let matching = tokio::task::spawn_blocking(move || {
            // Held here, because a client that hangs up ends the waiting, but not this.
            let _turn = turn;
            let matches =
                |attempt: &HashAttempt| matches!(bcrypt::verify(&*password, &attempt.hash), Ok(true));
            attempts.iter().any(|attempt| matches(attempt) && attempt.is_own)
        });
        if !matches!(matching.await, Ok(true)) {
            return Ok(false);
        }
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(credentials.user, digest);
        Ok(true)
    }

    /// What a password of `user` is held against, until one of the user's own matches: one hash of each cost, so that
    /// every refusal takes the same time, and tells nothing of whether there is such a user.
    fn attempts(&self, user: &str) -> Vec<HashAttempt> {
        let own = self.hashes.get(user);
        let own_cost = own.and_then(|hash| cost(hash));
        let own = own.map(|hash| HashAttempt { hash: hash.clone(), is_own: true });
        let others = self.by_cost.iter().filter(|(cost, _)| Some(**cost) != own_cost);
        let others = others.map(|(_, hash)| HashAttempt { hash: hash.clone(), is_own: false });
        own.into_iter().chain(others).collect()
    }

    fn is_proven(&self, user: &str, digest: &[u8; 32]) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(user) == Some(digest)
    }
}

/// A user and what is sent as the password.
struct BasicCredentials {
    user: String,
    password: Zeroizing<Vec<u8>>,
}

impl BasicCredentials {
    /// From the value of `Authorization`, if it is that of basic authentication (RFC 7617).
    fn read(authorization: &HeaderValue) -> Option<Self> {
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

    /// The same for the same user and password, and for no others. The key of this process makes it worthless outside.
    fn digest(&self, key: &[u8; 32]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(key);
        digest.update(self.user.len().to_le_bytes());
        digest.update(&self.user);
        digest.update(&*self.password);
        digest.finalize().into()
    }
}

/// The cost of a bcrypt hash; `None` if it is none.
fn cost(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|parts| parts.get_cost()).filter(|cost| (4..=31).contains(cost))
}

/// So many requests at once, and then one an interval.
#[derive(Debug)]
pub(super) struct RequestRateLimit {
    interval: Duration,
    /// How far ahead of its time a request may come.
    ahead: Duration,
    /// When the next would be due if all came an interval apart.
    due: Mutex<Duration>,
}

impl RequestRateLimit {
    /// `burst` requests at once, and then one an `interval`.
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, ahead: interval.saturating_mul(burst.saturating_sub(1)), due: Mutex::default() }
    }

    fn allows(&self, now: Duration) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if *due > now.saturating_add(self.ahead) {
            return false;
        }
        *due = (*due).max(now).saturating_add(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `hunter2`, by Python's bcrypt, at the least cost.
    const HASH: &str = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn access(users: &[(&str, &str)]) -> Result<Authenticator, String> {
        let users = users.iter().map(|(user, hash)| ((*user).to_owned(), (*hash).to_owned()));
        Authenticator::new(users.collect(), None)
    }

    async fn admits(access: &Authenticator, authorization: &str) -> bool {
        let value = HeaderValue::from_str(authorization).ok();
        access.authenticate(value.as_ref(), PEER, Duration::ZERO).await.is_ok()
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in() -> Result<(), String> {
        let access = access(&[("alice", HASH), ("b:b", &HASH.replace("$2b$", "$2y$")), ("c", HASH)])?;
        let good =
            [basic("alice:hunter2"), basic("c:hunter2"), basic("alice:hunter2").replace("Basic", "bAsIc")];
        for good in &good {
            for _ in 0..2 {
                assert!(admits(&access, good).await, "{good}");
            }
        }
        let proven = || access.users.proven.lock().map_or(0, |proven| proven.len());
        assert_eq!(proven(), 2, "each password went through bcrypt once");
        let bad = [
            basic("alice:hunter3"),
            basic("alice:"),
            basic("alice"),
            basic("bob:hunter2"),
            basic(":hunter2"),
            basic("alic:ehunter2"),
            // A colon ends the user, so this one can never come.
            basic("b:b:hunter2"),
            basic("alice:hunter2").replace("Basic", "Bearer"),
            basic("alice:hunter2").replace("Basic ", "Basic"),
            "Basic ===".to_owned(),
            String::new(),
        ];
        for bad in &bad {
            assert!(!admits(&access, bad).await, "{bad}");
        }
        assert_eq!(access.authenticate(None, PEER, Duration::ZERO).await, Err(AuthRefusal::Unknown));
        assert_eq!(proven(), 2, "what was refused is not kept");
        Ok(())
    }

    #[test]
    fn a_client_that_hangs_up_does_not_let_another_password_be_put_through_bcrypt_beside_its_own()
    -> Result<(), Box<dyn std::error::Error>> {
        // Some seconds of work.
        let access = access(&[("alice", &HASH.replace("$04$", "$14$"))])?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let wrong = basic("alice:hunter3");
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = admits(&access, &wrong) => {}
                () = std::future::ready(()) => {}
            }
        });
        let other = basic("alice:hunter4");
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = admits(&access, &other) => panic!("it did not wait"),
                () = std::future::ready(()) => {}
            }
        });
        runtime.shutdown_background();
        Ok(())
    }

    #[test]
    fn every_refusal_costs_one_hash_of_each_cost_whether_there_is_such_a_user_or_not() -> Result<(), String> {
        let costly = HASH.replace("$04$", "$06$");
        let access = access(&[("alice", HASH), ("bob", &costly), ("carol", HASH)])?;
        for (user, own) in
            [("alice", Some(4)), ("bob", Some(6)), ("carol", Some(4)), ("mallory", None), ("", None)]
        {
            let attempts = access.users.attempts(user);
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
    async fn a_proven_password_waits_for_nobody_and_refused_requests_spend_no_limit() -> Result<(), String> {
        let limit = Some(RequestRateLimit::new(Duration::from_hours(1), 2));
        let access = Authenticator::new([("alice".to_owned(), HASH.to_owned())].into(), limit)?;
        let (good, bad) = (basic("alice:hunter2"), basic("alice:hunter3"));
        for _ in 0..5 {
            assert!(!admits(&access, &bad).await);
        }
        assert!(admits(&access, &good).await, "the limit is untouched");
        let working = access.users.queue.acquire(PEER).await;
        assert!(working.is_ok() && admits(&access, &good).await, "while another password is checked");
        assert!(!admits(&access, &good).await, "two are the limit");
        Ok(())
    }

    #[tokio::test]
    async fn without_users_everybody_is_let_in() -> Result<(), String> {
        let access = access(&[])?;
        assert!(admits(&access, &basic("who:ever")).await);
        assert_eq!(access.authenticate(None, PEER, Duration::ZERO).await, Ok(()));
        Ok(())
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_shown() {
        let costly = HASH.replace("$04$", "$21$");
        let cheap = HASH.replace("$04$", "$03$");
        for (given, why) in [
            ("hunter2", "is no bcrypt hash"),
            ("", "is no bcrypt hash"),
            (HASH.get(1..).unwrap_or_default(), "is no bcrypt hash"),
            (HASH.get(..59).unwrap_or_default(), "is no bcrypt hash"),
            (&*cheap, "is no bcrypt hash"),
            (&*costly, "has a cost of 21 and 20 is the most"),
        ] {
            let said = access(&[("alice", given)]).err().unwrap_or_default();
            assert!(
                said.contains(why) && said.contains("user \"alice\"") && said.contains("htpasswd"),
                "{said}"
            );
            assert!(given.is_empty() || !said.contains(given), "{said}");
        }
    }

    #[tokio::test]
    async fn a_limit_lets_a_burst_through_and_then_one_an_interval() -> Result<(), String> {
        let at = Duration::from_secs;
        let access = Authenticator::new(BTreeMap::new(), Some(RequestRateLimit::new(at(10), 3)))?;
        let mut said = String::new();
        for second in [0, 0, 0, 0, 9, 10, 10, 19, 20, 1000, 1000, 1000, 1000, 1010] {
            said.push(if access.authenticate(None, PEER, at(second)).await.is_ok() { '.' } else { 'x' });
        }
        assert_eq!(said, "...xx.xx....x.");
        Ok(())
    }
}
