//! The jobs of an execution, as the table of jobs shows them: how far they are, and what they log.
//!
//! Messages and log lines are a handler's own text, so control characters are replaced before they reach a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_jobs::{DynamoJobs, JobItem, Jobs as _};
use postern_types::{JobId, Tenant};
use tokio::time::Instant;

/// How often each job is read. A worker reports once a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// The columns of a progress bar.
const COLUMNS: u8 = 24;

/// News of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A line of the job's log.
    Log(String),
    /// The job's progress, as a bar with the message.
    Progress(String),
}

/// The jobs that are looked at, and what is known of each.
pub(crate) struct JobView {
    table: DynamoJobs,
    jobs: BTreeMap<String, Seen>,
    next: Instant,
}

/// What has been shown of a job.
struct Seen {
    tenant: Tenant,
    progress_at: Option<String>,
    log: Vec<String>,
    has_ended: bool,
}

impl JobView {
    pub(crate) fn new(table: DynamoJobs) -> Self {
        Self { table, jobs: BTreeMap::new(), next: Instant::now() }
    }

    /// Adds a job that was published to this topic, whose first level is the tenant.
    pub(crate) fn add(&mut self, job_id: &str, topic: &str) {
        let tenant = topic.split('/').next().and_then(|tenant| Tenant::parse(tenant).ok());
        if let Some(tenant) = tenant {
            let seen = Seen { tenant, progress_at: None, log: Vec::new(), has_ended: false };
            self.jobs.entry(job_id.to_owned()).or_insert(seen);
        }
    }

    /// What is new since the last call, by job. `is_last` reads every job once more. A job that cannot be read has no
    /// news: a stack in AWS may not let its user read the table.
    pub(crate) async fn news(&mut self, is_last: bool) -> Vec<(String, News)> {
        if !is_last && Instant::now() < self.next {
            return Vec::new();
        }

        self.next = Instant::now() + INTERVAL;
        let mut news = Vec::new();
        for (id, seen) in self.jobs.iter_mut().filter(|(_, seen)| !seen.has_ended) {
            let Ok(job_id) = JobId::parse(id.as_str()) else { continue };
            if let Ok(Some(job)) = self.table.get(&seen.tenant, &job_id).await {
                news.extend(seen.news(job).into_iter().map(|one| (id.clone(), one)));
            }
        }
        news
    }
}

impl Seen {
    fn news(&mut self, job: JobItem) -> Vec<News> {
        self.has_ended = !job.state.is_open();
        if job.progress_at == self.progress_at {
            return Vec::new();
        }

        let lines = new_lines(&self.log, &job.log).iter().map(|line| News::Log(printable(line)));
        let mut news: Vec<_> = lines.collect();
        if job.percent.is_some() || job.message.is_some() {
            news.push(News::Progress(bar(job.percent, job.message.as_deref())));
        }

        self.progress_at = job.progress_at;
        self.log = job.log;
        news
    }
}

/// The lines of a log's tail that an earlier tail did not have.
fn new_lines<'a>(before: &[String], now: &'a [String]) -> &'a [String] {
    let known = (0..=now.len().min(before.len())).rev().find(|&known| before.ends_with(&now[..known]));
    &now[known.unwrap_or_default()..]
}

/// A progress bar: `[############------------]  50 %  row 700 of 1000`.
fn bar(percent: Option<f64>, message: Option<&str>) -> String {
    let message = printable(message.unwrap_or_default());
    let Some(percent) = percent else { return message };

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the table has 0 to 100")]
    let full = (percent.clamp(0.0, 100.0) / 100.0 * f64::from(COLUMNS)) as u8;
    let (full, empty) = ("#".repeat(full.into()), "-".repeat((COLUMNS - full).into()));
    format!("[{full}{empty}] {percent:3.0} %  {message}").trim_end().to_owned()
}

/// A text that cannot control a terminal: neither by escape sequences nor by changing the direction of writing.
fn printable(text: &str) -> String {
    let is_safe =
        |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_the_new_lines_of_a_tail_are_shown() {
        for (before, now, new) in [
            ("", "a b", "a b"),
            ("a b", "a b c", "c"),
            ("a b c", "b c d", "d"),
            ("a b", "c d", "c d"),
            ("a a", "a a a", "a"),
            ("a b", "a b", ""),
        ] {
            assert_eq!(new_lines(&lines(before), &lines(now)), lines(new), "{before} | {now}");
        }
    }

    #[test]
    fn a_bar_shows_percentage_and_message() {
        assert_eq!(bar(Some(50.0), Some("half")), "[############------------]  50 %  half");
        assert_eq!(bar(Some(100.0), None), "[########################] 100 %");
        assert_eq!(bar(None, Some("connecting")), "connecting");
    }

    #[test]
    fn no_text_of_a_handler_controls_the_terminal() {
        assert_eq!(
            bar(None, Some("\u{1b}[2J\u{7}\u{202e}x\r\n")),
            "\u{fffd}[2J\u{fffd}\u{fffd}x\u{fffd}\u{fffd}"
        );
    }
}
