//! A run of the verification: the checks in their order, the report, and the clean-up.

use std::fs;
use std::future::Future;

use postern_local::{WorkerFiles, say};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::checks::absence::{Group, worker_offline};
use crate::checks::dead_letters::{self, DeadLetters};
use crate::checks::{Checked, attempts, cancel, errors, identities, latency, machines, others};
use crate::error::Error;
use crate::identity::Identity;
use crate::options::Options;
use crate::report::{Check, Report};
use crate::samples::samples;
use crate::site::Site;
use crate::workers;

/// Checks the stack and prints the report; whether no check failed. What the run has created is deleted in any case.
pub async fn verify(options: Options) -> Result<bool, Error> {
    // Before anything is created, so that no signal ends the process without the clean-up.
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] = signals.map(|made| made.map_err(Error::file("signals")));
    let (mut interrupt, mut terminate): (Signal, Signal) = (interrupt?, terminate?);

    let site = Site::open(options).await?;
    let mut battery = Battery::new(&site);
    let done = tokio::select! {
        done = battery.run() => done,
        _ = interrupt.recv() => Err(Error::Invalid("interrupted".into())),
        _ = terminate.recv() => Err(Error::Invalid("interrupted".into())),
    };

    say("cleaning up");
    let left = site.cleanup.run().await;
    let report = battery.report;
    if let Some(path) = &site.options.report {
        fs::write(path, report.markdown()).map_err(Error::file(path))?;
    }
    done?;

    say(format_args!("\n{}: {}", report.title, report.summary()));
    Ok(report.passed() && left.is_empty())
}

/// The checks of one run.
struct Battery<'a> {
    site: &'a Site,
    report: Report,
}

impl<'a> Battery<'a> {
    fn new(site: &'a Site) -> Self {
        let region = site.config.region().map(ToString::to_string).unwrap_or_default();
        let place = if site.is_aws() { region } else { "the local stack".into() };
        Self { site, report: Report::new(site.outputs.stack(), &place) }
    }

    async fn run(&mut self) -> Result<(), Error> {
        say(format_args!(
            "{}: everything that this run creates is named {}",
            self.report.title, self.site.run
        ));

        if self.site.has_jobs() {
            self.jobs().await?;
        }
        self.check("kafka-mapping", others::kafka(self.site)).await;
        self.check("grip-publish", others::grip(self.site)).await;
        Ok(())
    }

    async fn jobs(&mut self) -> Result<(), Error> {
        let site = self.site;
        // First, because Lambda retries for minutes before a message is a dead letter.
        dead_letters::publish(site).await?;

        let identity = Identity { name: "worker", tenant: &site.tenant, group: None };
        let files = identity.create(site).await?;
        let worker = workers::start(site, &files, &[]).await?;
        self.machines().await;
        self.attempts().await;
        drop(worker);

        self.check("worker-offline", worker_offline(site, &files)).await;
        self.identities(&files).await;
        self.group().await;
        self.dead_letters().await;
        Ok(())
    }

    async fn machines(&mut self) {
        let site = self.site;
        // A machine without samples, such as the one that compacts Kafka's objects, works on data of its own.
        let has_samples = |machine: &&str| samples().iter().any(|(of, ..)| of == machine);
        for machine in site.outputs.machine_names().filter(has_samples) {
            self.check(&format!("machine:{machine}"), machines::outcomes(site, machine)).await;
        }
        if !site.outputs.machine("fan-out").is_empty() {
            self.check("map-children", machines::distributed_map(site)).await;
        }
    }

    async fn attempts(&mut self) {
        let site = self.site;
        self.check("long-job", errors::long_job(site)).await;
        self.check("heartbeat-timeout", errors::heartbeat_timeout(site)).await;
        self.check("timeout", errors::timeout(site)).await;
        self.check("cancel", cancel::stop(site)).await;

        self.check("entered-time-retry", attempts::retry(site)).await;
        self.check("entered-time-redrive", attempts::redrive(site)).await;
        self.check("latency", latency::latencies(site)).await;
    }

    async fn identities(&mut self, files: &WorkerFiles) {
        let site = self.site;
        self.check("wrong-tenant", identities::tenant(site, files)).await;
        self.check("wrong-client-id", identities::client_id(site, files)).await;
        self.check("wrong-group", identities::group(site, files)).await;
        self.check("wrong-answers", identities::answers(site, files)).await;
    }

    async fn group(&mut self) {
        let site = self.site;
        match Group::create(site).await {
            Ok(group) => {
                self.check("group-shares", group.shares(site)).await;
                self.check("group-offline", group.offline(site)).await;
            }
            Err(error) => self.check("group-shares", async { Err(error) }).await,
        }
    }

    async fn dead_letters(&mut self) {
        let site = self.site;
        match DeadLetters::collect(site).await {
            Ok(found) => {
                self.check("dead-letter", async { found.reason() }).await;
                self.check("rule-fields", async { found.rule_wins(site) }).await;
                self.check("rule-no-json", async { Ok(found.no_json(site)) }).await;
            }
            Err(error) => self.check("dead-letter", async { Err(error) }).await,
        }
    }

    /// Runs a check, prints its line and adds it to the report.
    async fn check(&mut self, name: &str, check: impl Future<Output = Checked>) {
        let start = Instant::now();
        let found = check.await;

        let check = Check::new(name.into(), found, start.elapsed());
        say(check.line());
        self.report.checks.push(check);
    }
}
