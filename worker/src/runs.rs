//! The table of runs. A run belongs to an idempotency key; all attempts with that key that are here at the same
//! time share it. The table starts and ends nothing by itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use postern_types::{JobId, JobMessage};
use tokio::sync::{oneshot, watch};

use crate::journal::Answer;

/// What identifies a run. Two kinds may use the same key for different work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    pub(crate) kind: String,
    pub(crate) key: String,
}

/// The runs that wait for a slot, have a slot, or are being answered.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<RunKey, Run>>);

struct Run {
    attempts: Vec<Attempt>,
    /// The attempt that the handler runs for, which may have been answered already.
    first: JobId,
    started: bool,
    stuck: bool,
    /// The latest deadline of all attempts; `None` means that one of them has no deadline.
    deadline: watch::Sender<Option<Timestamp>>,
    /// Why the run must end before its time; `None` while it need not.
    cancelled: watch::Sender<Option<String>>,
}

/// One attempt that waits for the run's end.
pub(crate) struct Attempt {
    pub(crate) job: Arc<JobMessage>,
    pub(crate) answered: oneshot::Sender<Answer>,
}

/// An attempt's part in a run.
pub(crate) struct Joined {
    /// Receives the attempt's answer. An error means that the run ended without having started.
    pub(crate) answered: oneshot::Receiver<Answer>,
    /// How far the run had come.
    pub(crate) stage: Stage,
}

/// How far a run had come when an attempt joined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// This attempt is the first one: somebody must start the run.
    New,
    /// The run waits for a slot.
    Waiting,
    /// The handler runs.
    Started,
}

/// A run that has a slot.
pub(crate) struct Started {
    /// The attempt whose job the handler sees.
    pub(crate) job: Arc<JobMessage>,
    /// The latest deadline, which moves when another attempt joins.
    pub(crate) deadline: watch::Receiver<Option<Timestamp>>,
    /// Why the run must end before its time, once it must.
    pub(crate) cancelled: watch::Receiver<Option<String>>,
}

/// The jobs that the worker has and has not answered.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// How many handlers run.
    pub(crate) handlers: usize,
    /// Jobs whose handler runs.
    pub(crate) running: Vec<JobId>,
    /// Jobs that wait for a slot.
    pub(crate) waiting: Vec<JobId>,
}

impl fmt::Debug for Runs {
    /// Shows nothing of the jobs, whose messages contain inputs and tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Runs").finish_non_exhaustive()
    }
}

impl Runs {
    /// Adds an attempt to the run with this key, or to a new one.
    pub(crate) fn join(&self, key: &RunKey, job: &Arc<JobMessage>) -> Joined {
        let (answered, receiver) = oneshot::channel();
        let attempt = Attempt { job: Arc::clone(job), answered };
        let mut runs = self.lock();

        let stage = if let Some(run) = runs.get_mut(key) {
            run.attempts.push(attempt);
            run.deadline.send_modify(|latest| *latest = later(*latest, job.deadline));
            if run.started { Stage::Started } else { Stage::Waiting }
        } else {
            let deadline = watch::Sender::new(job.deadline);
            let cancelled = watch::Sender::new(None);
            let run = Run {
                attempts: vec![attempt],
                first: job.id(),
                started: false,
                stuck: false,
                deadline,
                cancelled,
            };
            runs.insert(key.clone(), run);
            Stage::New
        };
        Joined { answered: receiver, stage }
    }

    /// Marks a run as started. `None` if all its attempts have withdrawn: then the run is over.
    pub(crate) fn begin(&self, key: &RunKey) -> Option<Started> {
        let mut runs = self.lock();
        let run = runs.get_mut(key)?;
        if let Some(first) = run.attempts.first() {
            run.started = true;
            run.first = first.job.id();
            return Some(Started {
                job: Arc::clone(&first.job),
                deadline: run.deadline.subscribe(),
                cancelled: run.cancelled.subscribe(),
            });
        }

        runs.remove(key);
        None
    }

    /// Tells the handler of a run to end, if it runs for this attempt alone. `false` if the attempt can withdraw at once:
    /// the handler does not run, or it runs for other attempts too.
    pub(crate) fn cancel(&self, key: &RunKey, job: &Arc<JobMessage>, reason: &str) -> bool {
        let runs = self.lock();
        let Some(run) = runs.get(key).filter(|run| run.started) else { return false };
        let alone = matches!(&run.attempts[..], [attempt] if Arc::ptr_eq(&attempt.job, job));
        if alone {
            run.cancelled.send_replace(Some(reason.to_owned()));
        }
        alone
    }

    /// The jobs that are here. A handler that does not end counts as running also when its job has been answered.
    pub(crate) fn held(&self) -> Held {
        let (runs, mut held) = (self.lock(), Held::default());
        for run in runs.values() {
            let list = if run.started { &mut held.running } else { &mut held.waiting };
            list.extend(run.attempts.iter().map(|attempt| attempt.job.id()));
            if run.started {
                held.handlers += 1;
                if run.attempts.is_empty() {
                    held.running.push(run.first.clone());
                }
            }
        }
        held.running.sort();
        held.waiting.sort();
        held
    }

    /// The jobs of the attempts that wait for the end of a run. The list is empty for a run that goes on after all its
    /// attempts were answered.
    pub(crate) fn sharing(&self, key: &RunKey) -> Vec<JobId> {
        let runs = self.lock();
        let attempts = runs.get(key).map(|run| run.attempts.iter());
        attempts.into_iter().flatten().map(|attempt| attempt.job.id()).collect()
    }

    /// Takes an attempt out of its run. `false` if the attempt's answer is already being made.
    pub(crate) fn withdraw(&self, key: &RunKey, job: &Arc<JobMessage>) -> bool {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(key) else { return false };
        let before = run.attempts.len();
        run.attempts.retain(|attempt| !Arc::ptr_eq(&attempt.job, job));
        run.attempts.len() < before
    }

    /// Takes all attempts out of a run, to answer them. The run stays until [`Runs::end`].
    pub(crate) fn take(&self, key: &RunKey) -> Vec<Attempt> {
        self.lock().get_mut(key).map(|run| std::mem::take(&mut run.attempts)).unwrap_or_default()
    }

    /// Removes a run. `false` if an attempt has joined in the meantime and must be answered first.
    pub(crate) fn end(&self, key: &RunKey) -> bool {
        let mut runs = self.lock();
        if runs.get(key).is_some_and(|run| !run.attempts.is_empty()) {
            return false;
        }
        runs.remove(key);
        true
    }

    /// Removes a run that will not start. Its attempts see the error of [`Joined::answered`].
    pub(crate) fn abandon(&self, key: &RunKey) {
        self.lock().remove(key);
    }

    pub(crate) fn is_started(&self, key: &RunKey) -> bool {
        self.lock().get(key).is_some_and(|run| run.started)
    }

    /// Notes that a run's handler does not end.
    pub(crate) fn set_stuck(&self, key: &RunKey) {
        if let Some(run) = self.lock().get_mut(key) {
            run.stuck = true;
        }
    }

    pub(crate) fn is_stuck(&self, key: &RunKey) -> bool {
        self.lock().get(key).is_some_and(|run| run.stuck)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunKey, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.zip(other).map(|(one, other)| one.max(other))
}
