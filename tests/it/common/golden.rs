//! Full texts for people, which stand in `tests/it/golden` and in no other test. To accept a new wording, run
//! `INSTA_UPDATE=always cargo test --test it` and read the difference of these files.

use std::{env, fmt::Write as _};

use super::Output;

/// The output in several cases, in their order.
#[derive(Default)]
pub struct Transcript(String);

impl Transcript {
    pub fn add(&mut self, case: &str, text: &str) {
        let (case, text) = (case.trim_end().replace('\n', "\n# "), text.trim_end());
        let _ = write!(self.0, "# {case}\n{text}\n\n");
    }

    /// Adds the standard output and the standard error without the log.
    pub fn add_output(&mut self, case: &str, output: &Output) {
        self.add(case, &format!("{}{}", output.stdout, error_output(output)));
    }

    /// Compares the transcript with the golden file `name`.
    pub fn assert(self, name: &str) {
        assert_golden(name, &self.0);
    }
}

/// The standard error without the log.
pub fn error_output(output: &Output) -> String {
    let lines = output.stderr.lines().filter(|line| !line.starts_with("ts="));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Compares `text` with the golden file `name`, after replacing ports and folders.
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

/// Compares lines of a log with the golden file `name`, after replacing times, durations and the revision.
pub fn assert_log(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME");
    settings.add_filter(r"\b(\w+_seconds)=[\d.e-]+", "$1=N");
    settings.add_filter(r"\brevision=\S+", "revision=R");
    settings.add_filter(r"\bversion=\d\S+", "version=V");
    settings.bind(|| assert_golden(name, text));
}
