//! The status page: balances, ages and failures for a person. Complete without its script, which only refreshes it.
//! Pure: it reads no clock, makes no request and uses no socket.

mod format;
mod model;
mod position_table;
mod template;
mod wallet_table;

#[cfg(test)]
mod tests;

use askama::Template as _;

pub use self::model::StatusPage;
use self::template::PageTemplate;

/// The value of the response header of that name. It allows the style and the script by their hashes: nothing else runs,
/// whatever names an exchange gives its currencies.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     script-src 'sha256-2m2Z0XtaQJeIR4V+Dx2/sBxfK6Our+qgn4lR+qc5XLA='; \
     style-src 'sha256-umKZrNdwEyjWo7nUK2M3Yt6Bztwo16bcnGNStcPOacs='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Renders the whole HTML document.
#[must_use]
pub fn render(page: &StatusPage<'_>) -> String {
    let html = PageTemplate::new(page).render();
    debug_assert!(html.is_ok(), "writing to a String cannot fail: {html:?}");
    html.unwrap_or_default()
}
