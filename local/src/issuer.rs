//! The issuer of the tokens with which people sign in to the console of a local stack: `local/issuer/issuer.py`.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::deployment::Deployment;
use crate::error::Error;
use crate::process::Process;
use crate::project::Project;

/// How long the issuer may take to make its key.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An issuer of `OpenID` Connect on loopback, which ends when this value is dropped.
#[derive(Debug)]
pub struct Issuer {
    process: Process,
    url: String,
}

impl Issuer {
    /// Starts the issuer with the users of a JSON file, or with those of `local/issuer/users.json`. If it `stays`, it
    /// outlives the terminal that starts it.
    pub async fn start(
        project: &Project,
        folder: &Path,
        users: Option<&Path>,
        stays: bool,
    ) -> Result<Self, Error> {
        let mut command = project.script("local/issuer/issuer.py").into_std();
        if let Some(users) = users {
            command.arg("--users").arg(users);
        }
        if stays {
            command.process_group(0);
        }
        let mut process = Process::start("the issuer", &mut command, &folder.join("issuer.log"))?;

        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(url) = process.logs().lines().find_map(|line| line.strip_prefix("issuer: ")) {
                return Ok(Self { process, url: url.to_owned() });
            }
            if process.ended().is_some() {
                return Err(process.failure());
            }
            if Instant::now() > end {
                return Err(Error::TimedOut(TIMEOUT, "the issuer to print its address".into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The issuer's address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The issuer's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A deployment with a console whose users sign in here.
    pub fn console(&self, deployment: Deployment) -> Deployment {
        deployment.parameter("Console", "true").parameter("OidcIssuer", &self.url)
    }

    /// Leaves the issuer running when its owner ends.
    pub fn leave(self) {
        self.process.leave();
    }
}
