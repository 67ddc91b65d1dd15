//! A GET request to the exchange, as data.
//! Sends nothing, and knows no host and no signature.

use zeroize::Zeroizing;

/// A GET as it is to be sent. Signed, it holds the access key and the signature: it is wiped when
/// dropped and has no way to be printed.
pub(super) struct Request {
    /// After the base URL.
    pub path: &'static str,
    /// `name=value` pairs joined by `&`, percent-encoded; empty without parameters.
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
