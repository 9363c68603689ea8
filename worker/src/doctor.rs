//! `postern-worker doctor`: tests what a worker needs and reports each step in a line.
//!
//! It changes nothing, apart from one thing: it connects under the worker's client id, so that a running worker loses
//! its connection for a moment. Messages that arrive meanwhile are not acknowledged and stay with the broker.

mod clock;
mod state;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, EventLoop};
use tokio::time::timeout;

use crate::config::Config;
use crate::explain::explain;
use crate::handlers;
use crate::mqtt::options::options;
use crate::mqtt::{NotSubscribed, subscribe};
use crate::tls::{self, TlsError};

/// How long the endpoint may take for each step.
const TIMEOUT: Duration = Duration::from_secs(25);

/// Writes the report. Returns whether the worker can run.
pub(crate) async fn doctor(config: &Config, out: &mut (impl Write + Send)) -> io::Result<bool> {
    let mut report = Report { out, failed: false };
    report.step("state", state::check(config))?;
    report.step("clock", clock::check(config).await)?;
    report.step("proxy", Ok(proxy(config)))?;

    if let Some(tls) = report.step_with("certificate", certificate(config))?
        && let Some(mut connection) = report.step_with("connection", connect(config, tls).await)?
    {
        report.step("subscription", connection.subscribe_all(config).await)?;
    }
    for (name, section) in &config.handlers {
        report.step(&format!("handler {name}"), handlers::check(name, section).await)?;
    }
    report.end()
}

/// The result of a step: what was found, or what is wrong.
type Step<T = String> = Result<T, String>;

struct Report<'a, W> {
    out: &'a mut W,
    failed: bool,
}

impl<W: Write> Report<'_, W> {
    fn step(&mut self, name: &str, step: Step) -> io::Result<()> {
        self.step_with(name, step.map(|found| (found, ()))).map(|_| ())
    }

    /// Reports a step that leads to the next one.
    fn step_with<T>(&mut self, name: &str, step: Step<(String, T)>) -> io::Result<Option<T>> {
        match step {
            Ok((found, next)) => {
                writeln!(self.out, "{name}: {found}")?;
                Ok(Some(next))
            }
            Err(problem) => {
                self.failed = true;
                writeln!(self.out, "{name}: FAILED\n  {problem}")?;
                Ok(None)
            }
        }
    }

    fn end(self) -> io::Result<bool> {
        if !self.failed {
            writeln!(self.out, "all is well: this worker can run")?;
        }
        Ok(!self.failed)
    }
}

fn proxy(config: &Config) -> String {
    match &config.proxy {
        Some(proxy) => format!("the connection goes through {proxy}"),
        None => "none".into(),
    }
}

fn certificate(config: &Config) -> Step<(String, Arc<rustls::ClientConfig>)> {
    let check =
        || -> Result<_, TlsError> { Ok((tls::valid_until(&config.cert)?, tls::client_config(config)?)) };
    let (until, tls) = check().map_err(|error| error.to_string())?;
    Ok((format!("ok, valid until {until}, and the key belongs to it"), tls))
}

/// A connection that the broker has accepted.
struct Connection {
    client: AsyncClient,
    events: EventLoop,
}

async fn connect(config: &Config, tls: Arc<rustls::ClientConfig>) -> Step<(String, Connection)> {
    let (client, mut events) = AsyncClient::builder(options(config, tls)).capacity(10).build();
    let connected = timeout(TIMEOUT, async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(explain(&error, config.proxy.as_ref())),
            }
        }
    });

    connected.await.unwrap_or_else(|_| Err("the endpoint has not answered in time".into()))?;
    let found = format!("ok, {} accepts {:?}", config.endpoint, config.client_id);
    Ok((found, Connection { client, events }))
}

impl Connection {
    /// Subscribes to jobs, without which a worker cannot run, and to the control topics, without which it can.
    async fn subscribe_all(&mut self, config: &Config) -> Step {
        let filter = config.job_filter();
        self.subscribe(config, &filter).await?;

        for topic in [&config.cancel_topic, &config.command_topic] {
            if let Err(reason) = self.subscribe(config, topic.as_str()).await {
                return Ok(format!(
                    "ok, jobs arrive on {filter}; there is no cancellation, progress or presence: {reason}"
                ));
            }
        }
        Ok(format!("ok, jobs arrive on {filter}"))
    }

    async fn subscribe(&mut self, config: &Config, filter: &str) -> Result<(), String> {
        let subscribed = timeout(TIMEOUT, async {
            let subscription = subscribe(&self.client, filter);
            tokio::pin!(subscription);
            loop {
                tokio::select! {
                    done = &mut subscription => return done.map_err(|error| match error {
                        NotSubscribed::Refused(reason) => reason,
                        NotSubscribed::Disconnected => "the connection fell".into(),
                    }),
                    event = self.events.poll() => {
                        event.map_err(|error| explain(&error, config.proxy.as_ref()))?;
                    }
                }
            }
        });

        subscribed.await.unwrap_or_else(|_| Err("the broker has not answered in time".into()))
    }
}
