//! Texts that people read, held once: in `tests/it/golden`, and nowhere else in a test. A new wording is accepted with
//! `INSTA_UPDATE=always cargo test --test it`, and read in the difference of those files.

use std::{env, fmt::Write as _};

use super::Output;

/// What was said in some cases, in their order.
#[derive(Default)]
pub struct Transcript(String);

impl Transcript {
    pub fn add(&mut self, case: &str, said: &str) {
        let (case, said) = (case.trim_end().replace('\n', "\n# "), said.trim_end());
        let _ = write!(self.0, "# {case}\n{said}\n\n");
    }

    /// All that a program printed, but for its log.
    pub fn add_output(&mut self, case: &str, output: &Output) {
        self.add(case, &format!("{}{}", output.stdout, errors(output)));
    }

    /// Compares it with the file `name` of the golden ones.
    pub fn assert(self, name: &str) {
        assert_golden(name, &self.0);
    }
}

/// What a program printed to standard error, but for its log.
pub fn errors(output: &Output) -> String {
    let lines = output.stderr.lines().filter(|line| !line.starts_with("ts="));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Compares `text` with the file `name` of the golden ones; ports and folders are those of no run in particular.
pub fn assert_golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"(127\.0\.0\.1|\[::1?\]|localhost):\d{4,5}\b", "$1:PORT");
    let folder = env::temp_dir().display().to_string().replace('.', r"\.");
    settings.add_filter(&format!(r"{folder}/\.tmp\w+"), "FOLDER");
    settings.add_filter(r"clock difference \d\.\d s", "clock difference N s");
    settings.bind(|| insta::assert_snapshot!(name, text));
}
