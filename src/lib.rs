//! Prometheus exporter for the balances of accounts on XT and exchanges with the same API.
//!
//! One poller an account asks the exchange on its own clock; what it learns becomes a [`standing`]
//! and its text, put into the [`ledger`] as one; a scrape strings texts together. Where prices are
//! wanted one more poller reads them for all accounts: a [`quotation`]. The two sides
//! meet at the ledger and nowhere else, so a scrape can neither wait for the exchange nor cost a
//! call of it. Another configuration exchanges pollers and pages of the ledger, and none of the limits.
//!
//! ```text
//!  main ── cli          words → a command            log     what is logged, and what never is
//!    │
//!  command              what each command does: here the parts meet
//!    ├── config         file, flags, environment → only valid accounts
//!    ├── poll           when to ask, what an answer changes, and who asks for what
//!    │     ├── exchange       asking: limits, clock, keys, signatures, transport, v1, v4, reasons
//!    │     └── ledger         what is known now, and its text, swapped as one
//!    │           └── exposition     what is known → text: every name and help in one table
//!    │                 └── standing, quotation   of balances, of prices: fresh, held, unknown; pure
//!    ├── web            serving the ledger: routes, deadlines, status page
//!    │     ├── renderer       status page and JSON: rendered one at a time, off the threads of scrapes, and shared
//!    │     ├── connections    how many there are, and which has to go
//!    │     └── gate           the web configuration file: TLS, passwords, headers
//!    └── simulator      the exchange, simulated; apart from all of the above
//!
//!  moment               one reading of the clocks; an argument of whatever is pure
//!  files, yaml          reading files, whether one has changed, and who may read it; YAML, strict
//!  quoting              what an error may repeat of what a user typed
//!  blocking             what may block, on a thread of its own, with a deadline
//!  quick                a crate of its own, compiled for speed: what is done for every currency of every
//!                       answer, rows out of JSON and samples into text and gzip; knows none of the above
//! ```
//!
//! Arrows point down only. What is deliberately absent:
//!
//! * `web` knows no `exchange`, and `exchange` neither a metric nor a server.
//! * Nothing but `exchange::signature` and the cleaning of texts can read a key; [`exchange::Secret`]
//!   cannot be printed.
//! * Signing, decoding, judging and rendering read no clock and do no I/O.
//! * `simulator` shares no code with `exchange`, or it could not find its mistakes.
//! * Balances are in no `GaugeVec`: its series are keyed by a hash of unseparated labels.
//! * Each third-party crate has one home: reqwest in `exchange::transport`, rustls there and in `exchange::trust` for the client and
//!   in `web::tls` for the server, hmac in `exchange::signature` (and, apart from it, in `simulator`), hyper
//!   in `web` and `simulator`, socket2 in `command::daemon`, bcrypt in `web::access`, prometheus and procfs in `exposition::own`, clap
//!   in `cli`, serde-saphyr in `yaml`.

mod blocking;
pub mod cli;
pub mod command;
pub mod config;
pub mod exchange;
pub mod exposition;
mod files;
pub mod ledger;
pub mod log;
pub mod moment;
pub mod poll;
pub mod quotation;
mod quoting;
pub mod simulator;
pub mod standing;
pub mod web;
mod yaml;
