//! Which users and passwords proxies accepted or rejected. A proxy may lock a user after some wrong passwords. So a password
//! that was not accepted yet is tried by one call at a time, and a rejected one again after five minutes. A reload forgets
//! nothing. A restart does: passwords are short enough to be guessed from a hash, so the state file has none.
//! Sends nothing.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::proxy::{Proxy, ProxyCredentials};

/// The time after which a rejected password is tried again.
const RETRY_REJECTED_AFTER: Duration = Duration::from_mins(5);
/// From this number on, logins that nobody uses are removed when a new one comes.
const LOGINS_MAX: usize = 100;

/// The logins of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyLogins(Arc<Mutex<Vec<Arc<Login>>>>);

/// A user and password at one proxy.
#[derive(Debug)]
struct Login {
    /// The URL of the proxy.
    proxy: String,
    credentials: Arc<ProxyCredentials>,
    result: Mutex<LoginResult>,
    /// Locked by the call that tries the login.
    trial: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum LoginResult {
    Untried,
    Accepted,
    Rejected(Instant),
}

/// The permission to send one call with a login.
pub(super) struct LoginPermit {
    login: Arc<Login>,
    /// Held while the login is not accepted yet.
    _trial: Option<OwnedMutexGuard<()>>,
}

/// The proxy rejected a login so recently that it must not be tried again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoginRejected;

impl ProxyLogins {
    /// Waits until a call through `proxy` may be sent: another call may be trying the same login. `None` if the proxy gets
    /// no user and password.
    ///
    /// # Errors
    /// If the proxy rejected the login a short time ago.
    pub(super) async fn permit(&self, proxy: &Proxy) -> Result<Option<LoginPermit>, LoginRejected> {
        let Some(credentials) = proxy.credentials() else { return Ok(None) };
        let login = self.login(proxy.url().as_str(), credentials);
        let mut trial = None;
        loop {
            match (login.result(), trial) {
                (LoginResult::Accepted, _) => return Ok(Some(LoginPermit { login, _trial: None })),
                (LoginResult::Rejected(_), _) => return Err(LoginRejected),
                (LoginResult::Untried, trial @ Some(_)) => {
                    return Ok(Some(LoginPermit { login, _trial: trial }));
                }
                (LoginResult::Untried, None) => trial = Some(Arc::clone(&login.trial).lock_owned().await),
            }
        }
    }

    fn login(&self, proxy: &str, credentials: Arc<ProxyCredentials>) -> Arc<Login> {
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |login: &&Arc<Login>| login.proxy == proxy && login.credentials == credentials;
        if let Some(login) = logins.iter().find(is_same) {
            return Arc::clone(login);
        }
        if logins.len() >= LOGINS_MAX {
            let is_rejected = |login: &Login| matches!(login.result(), LoginResult::Rejected(_));
            logins.retain(|login| Arc::strong_count(login) > 1 || is_rejected(login));
        }
        let login = Arc::new(Login {
            proxy: proxy.to_owned(),
            credentials,
            result: Mutex::new(LoginResult::Untried),
            trial: Arc::default(),
        });
        logins.push(Arc::clone(&login));
        login
    }
}

impl Login {
    fn result(&self) -> LoginResult {
        let result = *self.result.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            LoginResult::Rejected(at) if at.elapsed() >= RETRY_REJECTED_AFTER => LoginResult::Untried,
            result => result,
        }
    }
}

impl LoginPermit {
    /// The user and password.
    pub(super) fn credentials(&self) -> &ProxyCredentials {
        &self.login.credentials
    }

    /// Records that the proxy opened a tunnel. A rejection of another call stays: it may be newer.
    pub(super) fn record_success(&self) {
        let is_rejected = matches!(self.login.result(), LoginResult::Rejected(_));
        if !is_rejected {
            *self.login.result.lock().unwrap_or_else(PoisonError::into_inner) = LoginResult::Accepted;
        }
    }

    /// Records that the proxy rejected the login.
    pub(super) fn record_rejection(&self) {
        let rejected = LoginResult::Rejected(Instant::now());
        *self.login.result.lock().unwrap_or_else(PoisonError::into_inner) = rejected;
    }
}

impl fmt::Debug for LoginPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginPermit")
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn proxy(url: &str) -> Proxy {
        let (proxy, credentials) = Proxy::parse(url).unwrap_or_else(|why| panic!("{why}"));
        match credentials {
            Some(credentials) => proxy.with_credentials(credentials),
            None => proxy,
        }
    }

    /// The permit; `None` if another call tries the login.
    async fn permit(logins: &ProxyLogins, url: &str) -> Option<Result<LoginPermit, LoginRejected>> {
        let permit = timeout(SOON, logins.permit(&proxy(url))).await.ok()?;
        Some(permit.map(|permit| permit.unwrap_or_else(|| panic!("no user and password: {url}"))))
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_a_login_and_the_others_wait_for_its_result() {
        let (logins, url) = (ProxyLogins::default(), "http://jane:right@proxy:1");
        assert!(logins.permit(&proxy("http://proxy:1")).await.is_ok_and(|permit| permit.is_none()));
        let first = permit(&logins, url).await;
        assert!(permit(&logins, url).await.is_none(), "another call tries it");
        for other in ["http://jane:other@proxy:1", "http://jane:right@proxy:2", "https://jane:right@proxy:1"]
        {
            assert!(permit(&logins, other).await.is_some_and(|permit| permit.is_ok()), "{other}");
        }
        drop(first);
        let Some(Ok(second)) = permit(&logins, url).await else { panic!("the first has no result") };
        let waiting = tokio::spawn({
            let logins = logins.clone();
            async move { logins.permit(&proxy(url)).await.is_ok() }
        });
        second.record_success();
        assert!(permit(&logins, url).await.is_some_and(|permit| permit.is_ok()), "it does not wait any more");
        drop(second);
        assert!(waiting.await.is_ok_and(|is_permitted| is_permitted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_login_is_tried_once_in_five_minutes_whatever_else_happens() {
        let (logins, url) = (ProxyLogins::default(), "http://jane:wrong@proxy:1");
        let (Some(Ok(first)), other) = (permit(&logins, url).await, "http://jane:other@proxy:1") else {
            panic!("nobody has tried it")
        };
        first.record_success();
        let Some(Ok(second)) = permit(&logins, url).await else { panic!("it is accepted") };
        second.record_rejection();
        first.record_success();
        assert!(permit(&logins, url).await.is_some_and(|permit| permit.is_err()), "at once");
        drop((first, second));
        for number in 0..2 * LOGINS_MAX {
            // Neither another rejection nor many other logins push it out, and neither does a reload, with a new `Proxy`.
            let other = if number == 0 { other.to_owned() } else { format!("http://u{number}:x@proxy:1") };
            let Some(Ok(permit)) = permit(&logins, &other).await else { panic!("another login: {other}") };
            permit.record_rejection();
        }
        advance(RETRY_REJECTED_AFTER.saturating_sub(SOON)).await;
        assert!(permit(&logins, url).await.is_some_and(|permit| permit.is_err()));
        advance(SOON).await;
        let third = permit(&logins, url).await;
        assert!(matches!(third, Some(Ok(_))), "it gets another chance");
        assert!(permit(&logins, url).await.is_none(), "in one call");
    }
}
