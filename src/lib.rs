//! Prometheus exporter for the balances of accounts on XT.

pub mod cli;
pub mod command;
pub mod config;
pub mod exchange;
pub mod exposition;
pub mod ledger;
pub mod log;
pub mod moment;
pub mod poll;
pub mod simulator;
pub mod standing;
pub mod web;
