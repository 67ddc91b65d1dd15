//! The HTTP server: `/metrics` for Prometheus, `/` (the status page) for people, `/api/v1/balances` for programs that
//! need exact amounts, `/-/healthy` and `/-/ready` for supervisors, `/-/reload` for operators,
//! `/-/permit` for other commands.
//! It reads the store and never calls the exchange.
//!
//! ```text
//!  server              what a request passes: policy, authentication, route
//!    ├── listener            accepts connections, with their timeouts
//!    │     └── connections         limits their number, and closes idle ones to make room
//!    ├── request_policy      rejects foreign hosts (DNS rebinding) and requests of other sites
//!    ├── config_watcher      reloads the web configuration file when it changes
//!    │     └── config              the file: TLS, passwords, headers, rate limit
//!    │           ├── auth                passwords and the rate limit
//!    │           │     └── fair_queue          one password check at a time, networks in turn
//!    │           └── tls                 rustls
//!    └── routes              paths and answers
//!          ├── permits             lets other processes ask for calls
//!          ├── renderer            renders large documents off the threads that serve scrapes
//!          ├── balances_api        JSON
//!          └── status_page         HTML
//!  response            bodies and headers
//! ```

mod auth;
mod balances_api;
mod config;
mod config_watcher;
mod connections;
mod fair_queue;
mod listener;
mod permits;
mod renderer;
mod request_policy;
mod response;
mod routes;
mod server;
pub mod status_page;
mod tls;

pub use self::{
    config_watcher::{OPEN_WARNING, WebConfigWatcher},
    permits::{GrantedPermit, PermitRefusal, PermitRequest},
    request_policy::HostName,
    routes::{ReloadRequest, is_reserved},
    server::Server,
};
