//! `simulate`: the simulated exchange alone, without the daemon.

use std::fmt::Write as _;

use super::{
    daemon,
    outcome::{CommandError, print},
    signals::Signals,
};
use crate::{
    cli::SimulateFlags,
    simulator::{SimulatedAccount, market},
};

pub(super) async fn run(flags: &SimulateFlags, mut signals: Signals) -> Result<(), CommandError> {
    let refuse_listener =
        |error: &_| daemon::bind_error("--web.listen-address", &flags.listen_address, error);
    let listener = daemon::bind(&flags.listen_address).await.map_err(|error| refuse_listener(&error))?;
    let address = listener.local_addr().map_err(|error| refuse_listener(&error))?;
    if !address.ip().is_loopback() {
        return Err(CommandError::Usage(format!(
            "--web.listen-address {} is reachable from other machines, but the simulated exchange is for this machine only: use 127.0.0.1",
            flags.listen_address
        )));
    }
    let accounts = market::create_accounts();
    print(&format!(
        "The simulated exchange listens on http://{address}/\nHelp and control pages: http://{address}/simulator/\n\n{}",
        format_key_pairs(&accounts)
    ));
    let simulator = market::create_simulator(accounts);
    let market_simulator = simulator.clone();
    tokio::spawn(async move { market::run_market(&market_simulator, std::future::pending()).await });
    let shutdown = async move {
        signals.shutdown().await;
    };
    simulator.serve(listener, shutdown).await;
    Ok(())
}

/// Formats a table of the made-up accounts and their keys.
pub(super) fn format_key_pairs(accounts: &[SimulatedAccount]) -> String {
    let mut text = format!("  {:<14}{:<38}{}\n", "account", "access key", "secret key");
    for account in accounts {
        let _ = writeln!(text, "  {:<14}{:<38}{}", account.name, account.access_key, account.secret_key);
    }
    text.push('\n');
    text
}
