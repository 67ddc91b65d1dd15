//! The one way out of the process: HTTP, or in tests a function that makes up the answers. Real
//! sockets do not move with a simulated clock, and what must hold for hours has to be tested on one.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    failure::Failure,
    http::{BaseUrl, HttpTransport, Reply},
};

/// A GET as it is to be sent. Signed, it holds the access key and the signature: it is wiped when
/// dropped and has no way to be printed.
pub(super) struct Request {
    /// After the base URL.
    pub path: &'static str,
    /// `name=value` pairs joined by `&`, percent-encoded; empty if there is none.
    pub query: Zeroizing<String>,
    /// Names in lower case; values of visible ASCII.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
}

impl Request {
    /// A call that anyone may make.
    #[must_use]
    pub(super) fn unsigned(path: &'static str) -> Self {
        // The documents of v1 ask for the type, on GET too.
        let form = Zeroizing::new("application/x-www-form-urlencoded".to_owned());
        Self { path, query: Zeroizing::default(), headers: vec![("content-type", form)] }
    }
}

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

    /// See [`Transport::trust_warning`].
    pub(super) fn trust_warning(&self) -> Option<&str> {
        match self {
            Self::Http(transport) => transport.trust_warning(),
            #[cfg(test)]
            Self::Script(_) => None,
        }
    }

    /// See [`Transport::get`].
    pub(super) async fn get<'a>(
        &self,
        base: &BaseUrl,
        request: &Request,
        known: &'a [u8],
        timeout: Duration,
    ) -> Result<Reply<'a>, Failure> {
        match self {
            Self::Http(transport) => transport.get(base, request, known, timeout).await,
            #[cfg(test)]
            Self::Script(Script(script)) => {
                let (path, query) = (request.path.to_owned(), request.query.to_string());
                let asked = ScriptedRequest { host: base.host(), path, query, timeout };
                let ScriptedResponse { status, retry_after, body } = script(asked).await?;
                Ok(Reply { status, retry_after, age: None, date: None, body: Ok(body.into()) })
            }
        }
    }
}

#[cfg(test)]
pub(crate) use self::script::{Script, ScriptedRequest, ScriptedResponse};

#[cfg(test)]
mod script {
    use std::{fmt, pin::Pin, time::Duration};

    use crate::exchange::Failure;

    /// Answers calls. It must end within the call's timeout, as HTTP does.
    pub(crate) struct Script(pub(crate) Box<dyn Fn(ScriptedRequest) -> ScriptedFuture + Send + Sync>);

    pub(crate) type ScriptedFuture = Pin<Box<dyn Future<Output = Result<ScriptedResponse, Failure>> + Send>>;

    /// A call as it leaves.
    pub(crate) struct ScriptedRequest {
        pub(crate) host: String,
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
