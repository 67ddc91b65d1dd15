//! Serving what is known: routes, limits, status page. Never calls the exchange.

pub mod page;
