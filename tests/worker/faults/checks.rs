//! What must be true after a run, whatever went wrong in it.

use serde_json::Value;

use super::cloud::Attempt;
use super::plan::Job;
use super::run::Evidence;

impl Evidence {
    /// Checks every promise, and returns the first ones that were broken.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut broken: Vec<String> = Vec::new();
        for (attempt, answers) in &self.answers {
            let job = &self.jobs[attempt.number];
            broken.extend(check_answers(attempt, job, answers));
            broken.extend(self.check_starts(attempt, job));
        }
        broken.extend(self.jobs.iter().filter_map(|job| self.check_effect(job)));
        broken.extend(self.jobs.iter().filter_map(|job| self.check_end(job)));
        broken.extend(self.check_shares());

        if broken.is_empty() {
            return Ok(());
        }
        let shown = broken.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
        Err(format!("{} promises broken, of {} attempts:\n  {shown}", broken.len(), self.answers.len()))
    }

    /// Every execution ends: one attempt of its job has an answer.
    fn check_end(&self, job: &Job) -> Option<String> {
        let mut of_job = self.answers.iter().filter(|(attempt, _)| attempt.number == job.number);
        let ended = of_job.any(|(_, answers)| !answers.is_empty());
        (!ended).then(|| format!("job {}: none of its attempts has an answer", job.number))
    }

    /// Each worker of a group has a fair part of the jobs: at least a quarter of an equal share.
    fn check_shares(&self) -> Option<String> {
        let fair = self.jobs.len() / self.received.len().max(1) / 4;
        let uneven = self.received.iter().any(|received| *received < fair);
        uneven.then(|| format!("the workers received {:?} of {} jobs", self.received, self.jobs.len()))
    }

    /// No handler of policy `once` starts twice for one `JobId`; the others start again only after a kill.
    fn check_starts(&self, attempt: &Attempt, job: &Job) -> Option<String> {
        let starts = self.starts_by_job.get(&attempt.job_id()).copied().unwrap_or_default();
        let most = if job.kind == "once" { 1 } else { 1 + self.kills };
        (starts > most).then(|| format!("{}: {} started {starts} times", attempt.token(), job.kind))
    }

    /// A job that succeeded under `exactly-once` has its effect, and repeats neither work nor effect.
    fn check_effect(&self, job: &Job) -> Option<String> {
        if job.kind != "exactly-once" {
            return None;
        }
        let key = Attempt { number: job.number, attempt: 1 }.key();
        let starts = self.starts_by_key.get(&key).copied().unwrap_or_default();
        if !self.effects.contains(&key) && self.succeeded(job) {
            return Some(format!("job {}: it succeeded, but its effect is missing", job.number));
        }
        (starts > 1 + self.kills).then(|| format!("job {}: its key started {starts} times", job.number))
    }

    fn succeeded(&self, job: &Job) -> bool {
        let of_job = self.answers.iter().filter(|(attempt, _)| attempt.number == job.number);
        of_job.flat_map(|(_, answers)| answers).any(|answer| answer["Status"] == "SUCCEEDED")
    }
}

/// All answers to one attempt agree, and they are the job's result or an error that the policy allows.
fn check_answers(attempt: &Attempt, job: &Job, answers: &[Value]) -> Vec<String> {
    let wrong = |answer: &Value| match answer["Status"].as_str() {
        Some("SUCCEEDED") => answer["result"]["number"] != job.number,
        _ => match answer["Error"].as_str() {
            Some("Worker.Interrupted") => job.kind != "once",
            Some("Worker.ShuttingDown") => false,
            _ => true,
        },
    };
    let mut broken: Vec<_> = answers
        .iter()
        .filter(|answer| wrong(answer))
        .map(|answer| format!("{}: {} answered {answer}", attempt.token(), job.kind))
        .collect();

    if answers.iter().any(|answer| outcome(answer) != outcome(&answers[0])) {
        broken.push(format!("{}: its answers contradict each other", attempt.token()));
    }
    broken
}

fn outcome(answer: &Value) -> (&Value, &Value) {
    (&answer["Error"], &answer["result"])
}
