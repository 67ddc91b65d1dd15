//! What is done for every currency of every answer: rows are taken out of JSON, digits looked at, samples
//! written and compressed.
//! Pure mechanics: it knows no metric by name, no account and no clock.

mod decimal;
pub mod gzip;
pub mod memory;
pub mod plain;
pub mod rows;
mod scan;
pub mod text;
