//! Prometheus exporter for the balances of accounts on XT.

pub mod simulator;
