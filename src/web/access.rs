//! Who may ask, and how often: passwords held against bcrypt hashes, and a limit of requests (R39).
//! Knows no route, and keeps no password.

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Above this, one password would keep a core busy for more than a minute.
const COST_MAX: u32 = 20;

/// Who may ask, and how often. Without users, whoever comes.
#[derive(Debug)]
pub(super) struct Access {
    users: Users,
    limit: Option<Limit>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// More requests than the limit allows.
    TooMany,
    /// Not with a user and password that are known.
    Unknown,
}

impl Access {
    /// For users with their bcrypt hashes, and so many requests.
    ///
    /// # Errors
    /// A sentence that names the user, if what is given for a hash is none. It does not show it: it
    /// may be the password.
    pub(super) fn new(users: BTreeMap<String, String>, limit: Option<Limit>) -> Result<Self, String> {
        for (user, hash) in &users {
            let cost = cost(hash).ok_or_else(|| {
                format!("basic_auth_users: what is given for user {user:?} is no bcrypt hash: make one with `htpasswd -nBC 10 {user}`")
            })?;
            if cost > COST_MAX {
                return Err(format!(
                    "basic_auth_users: the hash of user {user:?} has a cost of {cost} and {COST_MAX} is the most that can be waited for: make one with `htpasswd -nBC 10 {user}`"
                ));
            }
        }
        let users = Users { hashes: users, proven: Mutex::default(), at_work: Arc::default() };
        Ok(Self { users, limit })
    }

    /// Whether a request with this `Authorization` is answered at `now`, on a clock that nobody sets.
    /// Refused ones count too.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn admit(
        &self,
        authorization: Option<&HeaderValue>,
        now: Duration,
    ) -> Result<(), Refusal> {
        if !self.limit.as_ref().is_none_or(|limit| limit.allows(now)) {
            return Err(Refusal::TooMany);
        }
        if self.users.hashes.is_empty() {
            return Ok(());
        }
        let credentials = authorization.and_then(Credentials::read).ok_or(Refusal::Unknown)?;
        if self.users.know(credentials).await { Ok(()) } else { Err(Refusal::Unknown) }
    }

    /// How many users may ask; 0 if whoever comes may.
    pub(super) fn users(&self) -> usize {
        self.users.hashes.len()
    }
}

#[derive(Debug)]
struct Users {
    /// bcrypt hashes of passwords, by user.
    hashes: BTreeMap<String, String>,
    /// Digests of the credentials that were found right: a scraper's password is put through bcrypt
    /// once, not every few seconds. Not more than there are users.
    proven: Mutex<HashSet<[u8; 32]>>,
    /// One password is put through bcrypt at a time, whoever sends how many: it takes a core.
    at_work: Arc<tokio::sync::Mutex<()>>,
}

impl Users {
    async fn know(&self, credentials: Credentials) -> bool {
        let digest = credentials.digest();
        if self.is_proven(&digest) {
            return true;
        }
        let hash = self.hashes.get(&credentials.user);
        // A user who is not known takes as long as one who is.
        let Some(tried) = hash.or_else(|| self.hashes.values().next()).cloned() else { return false };
        let alone = Arc::clone(&self.at_work).lock_owned().await;
        if self.is_proven(&digest) {
            return true;
        }
        let password = credentials.password;
        let matching = tokio::task::spawn_blocking(move || {
            // Held here, because a client that hangs up ends the waiting, but not this.
            let _alone = alone;
            bcrypt::verify(&*password, &tried)
        });
        let matches = matches!(matching.await, Ok(Ok(true)));
        if !(matches && hash.is_some()) {
            return false;
        }
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        true
    }

    fn is_proven(&self, digest: &[u8; 32]) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }
}

/// A user and what is sent as the password.
struct Credentials {
    user: String,
    password: Zeroizing<Vec<u8>>,
}

impl Credentials {
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

    /// The same for the same user and password, and for no others.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
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
pub(super) struct Limit {
    interval: Duration,
    /// How far ahead of its time a request may come.
    ahead: Duration,
    /// When the next would be due if all came an interval apart.
    due: Mutex<Duration>,
}

impl Limit {
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

    fn access(users: &[(&str, &str)]) -> Result<Access, String> {
        let users = users.iter().map(|(user, hash)| ((*user).to_owned(), (*hash).to_owned()));
        Access::new(users.collect(), None)
    }

    async fn admits(access: &Access, authorization: &str) -> bool {
        let value = HeaderValue::from_str(authorization).ok();
        access.admit(value.as_ref(), Duration::ZERO).await.is_ok()
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
        assert_eq!(access.admit(None, Duration::ZERO).await, Err(Refusal::Unknown));
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
        assert!(access.users.at_work.try_lock().is_err());
        runtime.shutdown_background();
        Ok(())
    }

    #[tokio::test]
    async fn without_users_everybody_is_let_in() -> Result<(), String> {
        let access = access(&[])?;
        assert!(admits(&access, &basic("who:ever")).await);
        assert_eq!(access.admit(None, Duration::ZERO).await, Ok(()));
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
        let access = Access::new(BTreeMap::new(), Some(Limit::new(at(10), 3)))?;
        let mut said = String::new();
        for second in [0, 0, 0, 0, 9, 10, 10, 19, 20, 1000, 1000, 1000, 1000, 1010] {
            said.push(if access.admit(None, at(second)).await.is_ok() { '.' } else { 'x' });
        }
        assert_eq!(said, "...xx.xx....x.");
        Ok(())
    }
}
