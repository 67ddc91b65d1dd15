//! The integration tests: one program, so that what they share is compiled once. tests/README.md says what each file
//! proves.
//!
//! A test that needs a process of its own (a panic hook, the one subscriber of the log, a limit, a current directory,
//! an environment) starts one: the exporter as a child ([`crate::common::Exporter::start_by`]), or, where it has to look inside,
//! this program again with that test alone ([`crate::common::test_process_command`]). No test changes anything of its own process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at what it did not expect, and this is no library"
)]

mod common;

mod alert_e2e;
mod alerts;
mod ccxt;
mod commands;
mod config_mistakes;
mod dashboard_demo;
mod dashboard_json;
mod dashboard_links;
mod dashboard_queries;
mod deployment;
mod documents;
mod earn;
mod echo;
mod egress;
mod exact_balances;
mod exposition;
mod failover;
mod failures;
mod fuzz_corpus;
mod gzip;
mod honesty;
mod image;
mod listen_address;
mod log_texts;
mod mixin;
mod network;
mod packages;
mod panics;
mod positions;
mod prices;
mod prometheus;
mod proxies;
mod release;
mod reload;
mod second_reader;
mod secrets;
mod shards;
mod shares;
mod simulator;
mod socket_activation;
mod standby;
mod state_file;
mod status_page;
mod structure;
mod stuck;
mod supervisor;
mod systemd;
mod textfile;
mod tls;
mod unlisted;
mod unopened_wallet;
mod v4;
mod watch_log;
mod web;
mod web_config;
mod wex;
