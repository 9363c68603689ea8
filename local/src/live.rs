//! The GRIP proxy that makes the console of a local stack live. Without it the console polls.

use std::net::SocketAddr;

use postern_pushpin::{Ports, Pushpin, PushpinError, Route};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::deployment::Deployment;
use crate::emulator::Emulator;
use crate::error::Error;
use crate::outputs::Outputs;

/// A proxy that is going to be started: its address must be known before the stack is deployed, and the stack's before
/// the proxy is started.
pub(crate) struct Live {
    ports: Ports,
    /// The key with which the proxy signs its requests.
    key: String,
}

impl Live {
    /// Chooses the proxy's ports and keys, and keeps them in a secret for the stack.
    pub(crate) async fn new(emulator: &Emulator) -> Result<(Self, Parameters), Error> {
        let live = Self { ports: Ports::free()?, key: random_key()? };
        let keys = json!({
            "GRIP_URL": live.ports.control(),
            "GRIP_VERIFY_KEY": live.key,
            "GRIP_CHANNEL_KEY": random_key()?,
        });

        let secret = emulator.create_secret("grip", &keys.to_string()).await?;
        let url = format!("ws://{}/live", live.ports.clients());
        Ok((live, Parameters { secret, url }))
    }

    /// Starts the proxy in front of the stack's API.
    pub(crate) async fn start(self, emulator: &Emulator, outputs: &Outputs) -> Result<Pushpin, Error> {
        let gateway = emulator.endpoint();
        let gateway = gateway.trim_start_matches("http://").parse::<SocketAddr>();
        let gateway =
            gateway.map_err(|_| Error::Invalid(format!("{} is no address", emulator.endpoint())))?;
        let host = outputs.get("ConsoleUrl").trim_start_matches("http://");
        let host = host.split(':').next().unwrap_or_default();

        let route = Route::path("/live", gateway).host(host).signed("pushpin", &self.key);
        Ok(Pushpin::start_to_stay(self.ports, &[route]).await?)
    }
}

/// What the stack must know of the proxy.
#[derive(Debug)]
pub(crate) struct Parameters {
    secret: String,
    url: String,
}

impl Parameters {
    /// A deployment with a console that connects to the proxy.
    pub(crate) fn of(&self, deployment: Deployment) -> Deployment {
        deployment.parameter("GripSecretArn", &self.secret).parameter("LiveUrl", &self.url)
    }
}

impl From<PushpinError> for Error {
    fn from(error: PushpinError) -> Self {
        Self::Program { what: "Pushpin".into(), why: error.to_string(), log: None }
    }
}

fn random_key() -> Result<String, Error> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::Invalid("the system has no random numbers".into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
