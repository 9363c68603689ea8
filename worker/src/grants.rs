//! The cloud's answers to `UPLOAD` and `DOWNLOAD`: who waits for one is registered here, by job. Nothing is sent here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_types::{Command, JobId};
use tokio::sync::oneshot;

/// The jobs that wait for a presigned URL.
#[derive(Debug, Default)]
pub(crate) struct Grants(Mutex<HashMap<JobId, oneshot::Sender<Command>>>);

impl Grants {
    /// Registers that the job waits. The receiver gets `UPLOAD`, `DOWNLOAD` or `REFUSED`; register before the request is
    /// sent, so that its answer finds the receiver. A later registration of the job takes the place of an earlier one.
    pub(crate) fn expect(&self, job_id: &JobId) -> oneshot::Receiver<Command> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(job_id.clone(), sender);
        receiver
    }

    /// Hands an answer to the job that waits for it. `false` if none does any more.
    pub(crate) fn give(&self, job_id: &JobId, command: Command) -> bool {
        self.lock().remove(job_id).is_some_and(|sender| sender.send(command).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, oneshot::Sender<Command>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(job_id: &JobId) -> Command {
        Command::Refused { job_id: job_id.clone(), error: "E".into(), cause: String::new() }
    }

    #[tokio::test]
    async fn an_answer_reaches_the_job_that_waits_for_it_once() {
        let grants = Grants::default();
        let id = JobId::parse("ba7816bf8f01cfea414140de5dae2223").unwrap();
        assert!(!grants.give(&id, refused(&id)), "nobody waits yet");

        let waiting = grants.expect(&id);
        assert!(grants.give(&id, refused(&id)));
        assert_eq!(waiting.await.unwrap(), refused(&id));
        assert!(!grants.give(&id, refused(&id)), "answered before");
    }
}
