use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// A line for the person at the terminal.
pub fn say(line: impl Display) {
    // A reader that has gone (`| head`) is no reason to leave things running.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What a program does, each step with the seconds since its start.
#[derive(Debug)]
pub struct Steps(Instant);

impl Steps {
    /// The start.
    #[expect(clippy::new_without_default, reason = "a start is no default")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Says what is done now.
    pub fn step(&self, what: impl Display) {
        say(format_args!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64()));
    }
}

/// How a program ends: whether it did what it should, or why not.
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
