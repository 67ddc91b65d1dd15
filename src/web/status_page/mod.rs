//! The status page: balances, ages and failures for a person. Complete without its script, which refreshes it, filters
//! rows, copies amounts and switches the colours.
//! Pure: it reads no clock, makes no request and uses no socket.

mod account_section;
mod format;
mod input;
mod model;
mod position_table;
mod runbook;
mod template;
mod trend;
mod wallet_table;
mod worth;

#[cfg(test)]
mod tests;

use askama::Template as _;

use self::template::PageTemplate;
pub use self::{
    input::{PageScope, SortKey, StatusPage},
    runbook::RUNBOOKS,
};

/// The value of the response header of that name. It allows the style and the script by their hashes: nothing else runs,
/// whatever names an exchange gives its currencies.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     script-src 'sha256-4WvBwipX0CpQJtaF+w/0vV1caTJAnJdFHpU1N6yFX0o='; \
     style-src 'sha256-wkgL6Ic/qHW20eSzrLvEUHOOwTwyfjvvClF78YFAij8='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Renders the whole HTML document.
#[must_use]
pub fn render(page: &StatusPage<'_>) -> String {
    let html = PageTemplate::new(page).render();
    debug_assert!(html.is_ok(), "writing to a String cannot fail: {html:?}");
    html.unwrap_or_default()
}
