//! The one way out of the process: HTTP, or in tests a function that makes up the answers. Real
//! sockets do not move with a simulated clock, and what must hold for hours has to be tested on one.

#[cfg(test)]
use std::sync::Arc;
use std::time::Duration;

use super::{
    base_url::BaseUrl,
    error::Failure,
    http::{HttpTransport, Reply},
    proxy_logins::LoginPermit,
    request::Request,
};

/// What takes a call out and brings the answer back.
#[derive(Debug)]
pub(super) enum Transport {
    Http(HttpTransport),
    #[cfg(test)]
    Script(Script),
}

impl Transport {
    /// The way over the network.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub(super) fn http() -> Result<Self, String> {
        HttpTransport::new().map(Self::Http)
    }

    /// See [`HttpTransport::trust_warning`].
    pub(super) fn trust_warning(&self) -> Option<&str> {
        match self {
            Self::Http(transport) => transport.trust_warning(),
            #[cfg(test)]
            Self::Script(_) => None,
        }
    }

    /// See [`HttpTransport::login_permit`].
    pub(super) async fn login_permit(&self, base: &BaseUrl) -> Result<Option<LoginPermit>, Failure> {
        match self {
            Self::Http(transport) => transport.login_permit(base).await,
            #[cfg(test)]
            Self::Script(_) => Ok(None),
        }
    }

    /// See [`HttpTransport::get`].
    pub(super) async fn get(
        &self,
        base: &BaseUrl,
        request: &Request,
        timeout: Duration,
        login: Option<&LoginPermit>,
    ) -> Result<Reply, Failure> {
        match self {
            Self::Http(transport) => transport.get(base, request, timeout, login).await,
            #[cfg(test)]
            Self::Script(Script(script)) => {
                let (path, query) = (request.path.to_owned(), request.query.to_string());
                let address = Arc::clone(&base.route().egress.address);
                let request = ScriptedRequest { host: base.host(), address, path, query, timeout };
                let ScriptedResponse { status, retry_after, body } = script(request).await?;
                Ok(Reply { status, retry_after, age: None, date: None, body: Ok(body) })
            }
        }
    }
}

#[cfg(test)]
pub(crate) use self::script::{Script, ScriptedRequest, ScriptedResponse};

#[cfg(test)]
mod script {
    use std::{fmt, pin::Pin, sync::Arc, time::Duration};

    use crate::exchange::Failure;

    /// Answers calls. It must end within the call's timeout, as HTTP does.
    pub(crate) struct Script(pub(crate) Box<dyn Fn(ScriptedRequest) -> ScriptedFuture + Send + Sync>);

    pub(crate) type ScriptedFuture = Pin<Box<dyn Future<Output = Result<ScriptedResponse, Failure>> + Send>>;

    /// A call as it leaves.
    pub(crate) struct ScriptedRequest {
        pub(crate) host: String,
        /// The address that it leaves by; see [`Egress`](crate::exchange::Egress).
        pub(crate) address: Arc<str>,
        pub(crate) path: String,
        pub(crate) query: String,
        pub(crate) timeout: Duration,
    }

    /// The answer to it.
    pub(crate) struct ScriptedResponse {
        pub(crate) status: u16,
        pub(crate) retry_after: Option<Duration>,
        pub(crate) body: Vec<u8>,
    }

    impl fmt::Debug for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Script")
        }
    }
}
