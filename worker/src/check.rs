use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event};
use tokio::time::timeout;

use crate::config::Config;
use crate::explain::explain;
use crate::mqtt::{options, subscribe};
use crate::tls;

/// How long the endpoint may take for each step.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tests what a worker needs, step by step, and writes a line for each. Whether all is well.
pub(crate) async fn check(settings: &Config, out: &mut (impl Write + Send)) -> std::io::Result<bool> {
    match steps(settings, out).await? {
        Ok(()) => {
            writeln!(out, "all is well: this worker can run")?;
            Ok(true)
        }
        Err((step, problem)) => {
            writeln!(out, "{step}: FAILED\n  {problem}")?;
            Ok(false)
        }
    }
}

type Step = Result<(), (&'static str, String)>;

async fn steps(settings: &Config, out: &mut (impl Write + Send)) -> std::io::Result<Step> {
    let tls = match tls::valid_until(&settings.cert)
        .and_then(|until| tls::client_config(settings).map(|config| (config, until)))
    {
        Ok((config, until)) => {
            writeln!(out, "certificate: ok, valid until {until}, and the key is its own")?;
            config
        }
        Err(error) => return Ok(Err(("certificate", error.to_string()))),
    };
    let (client, mut events) = AsyncClient::builder(options(settings, Arc::clone(&tls))).capacity(10).build();
    let connected = timeout(PATIENCE, async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(explain(&error)),
            }
        }
    });
    match connected.await.unwrap_or_else(|_| Err("no answer from the endpoint in time".into())) {
        Ok(()) => writeln!(out, "connection: ok, {} took {:?}", settings.endpoint, settings.client_id)?,
        Err(problem) => return Ok(Err(("connection", problem))),
    }
    // Whatever comes in meanwhile is not acknowledged: the worker gets it.
    let filter = settings.job_filter();
    let filter = filter.as_str();
    let subscribed = timeout(PATIENCE, async {
        let subscription = subscribe(&client, filter);
        tokio::pin!(subscription);
        loop {
            tokio::select! {
                done = &mut subscription => {
                    return done.map_err(|refused| refused.unwrap_or_else(|| "the connection went".into()));
                }
                event = events.poll() => event.map_err(|error| explain(&error)).map(|_| ())?,
            }
        }
    });
    match subscribed.await.unwrap_or_else(|_| Err("no answer from the broker in time".into())) {
        Ok(()) => writeln!(out, "subscription: ok, jobs come in on {filter}")?,
        Err(problem) => return Ok(Err(("subscription", problem))),
    }
    Ok(Ok(()))
}
