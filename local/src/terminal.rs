//! The output of the programs that people start.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

/// Prints a line.
pub fn say(line: impl Display) {
    // A closed pipe (`| head`) must not end the program, because the program still has processes to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line in the place of the line before it, if a person looks on, and below it otherwise.
pub(crate) fn say_again(line: impl Display) {
    let mut out = std::io::stdout();
    // Up one line, which is cleared.
    let over = if out.is_terminal() { "\u{1b}[A\u{1b}[2K" } else { "" };
    let _ = writeln!(out, "{over}{line}");
}

/// The steps of a program, printed with the seconds since its start.
#[derive(Debug)]
pub struct Steps(Instant);

impl Steps {
    /// Starts the clock.
    #[expect(clippy::new_without_default, reason = "a clock that is started has no default value")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Prints the step that begins now.
    pub fn step(&self, what: impl Display) {
        say(format_args!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64()));
    }
}

/// The exit code of a program: success, failure, or failure with an error that is printed.
pub fn verdict<E: Display>(done: Result<bool, E>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("\nFAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}
