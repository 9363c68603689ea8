//! What the checks found: a table for the terminal, and a report in Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::Error;

/// What a check that did not fail found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The stack does what the check expects.
    Passed(String),
    /// The check expects nothing; it observes what AWS does.
    Observed(String),
    /// Only a real account can answer, and the stack is not in one.
    UnknownHere(String),
    /// The stack does not contain what the check is about.
    NotDeployed(String),
}

/// One line of the report.
#[derive(Debug, Clone)]
pub struct Check {
    /// The name, by which `docs/verified.md` refers to the check.
    pub name: String,
    /// `passed`, `FAILED`, `observed`, `unknown here` or `not deployed`.
    pub outcome: &'static str,
    /// What was found.
    pub detail: String,
    /// How long the check took.
    pub took: Duration,
}

/// The outcome of a check that failed.
pub(crate) const FAILED: &str = "FAILED";

impl Check {
    pub(crate) fn new(name: String, found: Result<Verdict, Error>, took: Duration) -> Self {
        let (outcome, detail) = match found {
            Ok(Verdict::Passed(detail)) => ("passed", detail),
            Ok(Verdict::Observed(detail)) => ("observed", detail),
            Ok(Verdict::UnknownHere(detail)) => ("unknown here", detail),
            Ok(Verdict::NotDeployed(detail)) => ("not deployed", detail),
            Err(error) => (FAILED, error.to_string()),
        };
        Self { name, outcome, detail, took }
    }

    /// The check as a line for the terminal.
    pub(crate) fn line(&self) -> String {
        format!("{:<13} {:<24} {}", self.outcome, self.name, self.detail.replace('\n', " "))
    }
}

/// The checks of one run.
#[derive(Debug)]
pub struct Report {
    /// The stack, where it is, and when the run began.
    pub title: String,
    /// The checks in the order in which they ended.
    pub checks: Vec<Check>,
}

impl Report {
    pub(crate) fn new(stack: &str, place: &str) -> Self {
        let at = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
        Self { title: format!("stack {stack} in {place}, {at}"), checks: Vec::new() }
    }

    /// Whether no check failed.
    pub fn passed(&self) -> bool {
        !self.checks.iter().any(|check| check.outcome == FAILED)
    }

    /// One line: how many checks had each outcome.
    pub fn summary(&self) -> String {
        let count = |outcome: &str| self.checks.iter().filter(|check| check.outcome == outcome).count();
        let outcomes = ["passed", FAILED, "observed", "unknown here", "not deployed"];
        let counts = outcomes.map(|outcome| format!("{} {outcome}", count(outcome)));
        counts.join(", ")
    }

    /// The report to keep.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Verification of Postern\n\n{}\n\n{}\n\n", self.title, self.summary());
        text.push_str("| Check | Outcome | Found | Seconds |\n|---|---|---|---|\n");

        for Check { name, outcome, detail, took } in &self.checks {
            let detail = detail.replace('|', "\\|").replace('\n', " ");
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {name} | {outcome} | {detail} | {:.1} |", took.as_secs_f64());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("postern", "us-east-1");
        let passed = Ok(Verdict::Passed("a | b".into()));
        report.checks.push(Check::new("dead-letter".into(), passed, Duration::from_millis(1_250)));
        report
    }

    #[test]
    fn a_report_lists_each_check_and_escapes_the_bars_of_a_table() {
        let markdown = report().markdown();
        assert!(markdown.contains("| dead-letter | passed | a \\| b | 1.2 |\n"), "{markdown}");
        assert!(markdown.contains("1 passed, 0 FAILED"), "{markdown}");
    }

    #[test]
    fn one_failed_check_fails_the_report_and_an_unknown_one_does_not() {
        let mut report = report();
        let unknown = Ok(Verdict::UnknownHere("only AWS knows".into()));
        report.checks.push(Check::new("group-offline".into(), unknown, Duration::ZERO));
        assert!(report.passed());

        let failed = Err(Error::unexpected("no dead letter"));
        report.checks.push(Check::new("dead-letter".into(), failed, Duration::ZERO));
        assert!(!report.passed());
    }
}
