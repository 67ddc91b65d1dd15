//! What is done for every currency of every answer: digits looked at, samples written and compressed.
//! Pure mechanics: it knows no metric by name, no account and no clock.

mod decimal;
pub mod gzip;
pub mod memory;
pub mod text;
