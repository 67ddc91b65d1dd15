//! Entry point: parses the command line, sets up logging and runs the command.

use std::process::ExitCode;

use xt_balance_exporter::{cli, commands, log};

fn main() -> ExitCode {
    log::set_panic_hook();
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(help) if !help.use_stderr() => return commands::finish_help(help.print()),
        Err(message) => {
            let _ = message.print();
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2));
        }
    };
    if let Some(flags) = command.log() {
        log::init(flags);
    }
    let code = commands::run(command);
    log::flush();
    code
}
