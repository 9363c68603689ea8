//! Seeded faults on a real broker: workers are killed, connections cut, messages doubled, and every promise of the
//! worker is checked afterwards.
//!
//! `POSTERN_FAULT_JOBS` is the number of jobs in each run (default 150; `make soak` takes 2,000), and
//! `POSTERN_FAULT_SEED` the seed of the first run. `POSTERN_FAULT_PARTITION_SECONDS` is the length of the first partition. A failed run names its seed: the same seed makes the same plan.

mod checks;
mod cloud;
mod field;
mod plan;
mod proxy;
mod run;

use plan::{Fault, Plan};
use run::Run;

/// The number in an environment variable.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// Carries out the plan of the seed with `workers` workers, and panics with the seed if a promise is broken.
async fn faults(name: &str, workers: usize, faults: &[Fault]) {
    let seed = number("POSTERN_FAULT_SEED", 1);
    let jobs = usize::try_from(number("POSTERN_FAULT_JOBS", 150)).unwrap();
    let plan = Plan::new(seed, jobs, faults);

    let run = Run::start(name, seed, workers).await;
    let checked = match run.carry_out(plan).await {
        Ok(evidence) => evidence.check(),
        Err(error) => Err(error),
    };
    if let Err(broken) = checked {
        panic!("{broken}\nrepeat it with POSTERN_FAULT_SEED={seed} POSTERN_FAULT_JOBS={jobs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_again_and_again_keeps_its_promises() {
    faults("kills", 1, &[Fault::KillWorker, Fault::Duplicate, Fault::SecondAttempt]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_a_bad_network_keeps_its_promises() {
    faults("network", 1, &[Fault::CutConnections, Fault::Partition, Fault::RestartBroker, Fault::Duplicate])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_a_slow_and_full_disk_keeps_its_promises() {
    let faults_of_disk =
        [Fault::SlowDisk, Fault::FullDisk, Fault::KillWorker, Fault::Duplicate, Fault::Reorder];
    faults("disk", 1, &faults_of_disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_loses_messages_and_sessions_breaks_no_promise() {
    let faults_of_broker = [Fault::KillBroker, Fault::LoseSessions, Fault::Duplicate, Fault::SecondAttempt];
    faults("broker", 1, &faults_of_broker).await;
}

/// The harness checked: a journal whose syncs do nothing loses jobs when the worker is killed, and a run must find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_sync_is_found_out() {
    let plan = Plan::new(number("POSTERN_FAULT_SEED", 1), 150, &[Fault::KillWorker]);
    let run = Run::start("forgetful", 1, 1).await.on_a_forgetful_disk();

    let checked = run.carry_out(plan).await.and_then(|evidence| evidence.check());
    let broken = checked.expect_err("jobs that were acknowledged and not synced survived a power cut");
    assert!(broken.contains("no answer to"), "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_breaks_no_promise() {
    let all = [
        Fault::KillWorker,
        Fault::RestartWorker,
        Fault::CutConnections,
        Fault::Partition,
        Fault::Duplicate,
        Fault::SecondAttempt,
        Fault::Reorder,
        Fault::RestartBroker,
        Fault::KillBroker,
        Fault::LoseSessions,
        Fault::SlowDisk,
        Fault::FullDisk,
    ];
    faults("all", 1, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_of_a_group_share_the_jobs_while_one_after_another_is_killed() {
    faults("group", 3, &[Fault::KillWorker]).await;
}
