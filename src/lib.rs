//! Prometheus exporter for the balances of accounts on XT and exchanges with the same API.
//!
//! One poller per account reads the exchange on a schedule of its own and writes each result into the
//! [`snapshot::store`]. A scrape reads the store and nothing else, so it neither waits for the exchange nor costs a
//! call. If prices are enabled, one more poller reads them for all accounts. A reload replaces pollers and snapshots;
//! rate-limiter state survives.
//!
//! ```text
//!  main ── cli            arguments → a command             log      what is logged, and what never is
//!    │
//!  commands               one file per command: serve, once, check, demo, simulate, healthcheck
//!    ├── config           flags, file and environment → validated accounts
//!    ├── poller           schedules polls, applies results, starts and stops pollers
//!    │     ├── exchange         rate limits, clock, credentials, signatures, HTTP, API versions, failure reasons
//!    │     └── snapshot         the last good answer of every wallet and of prices, and the store that holds them
//!    ├── exposition       snapshots → text format: every metric's name and help in one table
//!    ├── web              HTTP server: routes, timeouts, TLS, passwords, status page, JSON API
//!    └── simulator        a simulated exchange; shares no code with the modules above
//!
//!  clock                  one reading of the clocks, an argument of every pure function
//!  files, yaml            reads files and checks who may read them; strict YAML
//!  quoting                what an error may repeat of a user's input
//!  shard                  the part of the accounts that one of several processes watches
//!  blocking               runs blocking work on a thread of its own, with a deadline
//! ```
//!
//! No two files import each other; a test checks that. Other rules:
//!
//! * `web` does not know `exchange`'s client, and `exchange` knows neither a metric nor a server.
//! * Only `exchange` can read a key: to sign, to redact texts, to find the own key in a list and a key in a name that is shown.
//!   [`exchange::Secret`] cannot be printed.
//! * Signing, decoding, snapshots and rendering read no clock and do no I/O.
//! * `simulator` shares no code with `exchange`, so that it can reveal mistakes there.
//! * Balances are not in a `GaugeVec`, because it identifies series by a hash of unseparated labels.
//! * Each third-party crate has one home: reqwest in `exchange::http` (its URL type in `exchange::strict_url` and its users), rustls
//!   there, in `exchange::root_store` and in `commands::healthcheck` for the client and in `web::tls` for the server, hmac in `exchange::signing`
//!   (and separately in `simulator`), hyper in `web`, `simulator` and `commands::healthcheck`, socket2 in `commands::daemon`, bcrypt in
//!   `web::auth`, prometheus and procfs in `exposition::process_metrics`, clap and its generators in `cli`, serde-saphyr and
//!   `serde_path_to_error` in `yaml`, strsim in `yaml` and `cli::variables`.

mod blocking;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod exchange;
pub mod exposition;
mod files;
pub mod log;
pub mod poller;
mod quoting;
pub mod shard;
pub mod simulator;
pub mod snapshot;
pub mod web;
mod yaml;
