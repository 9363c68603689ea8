//! Temporary worker identities: a thing, a certificate and the stack's own worker policy.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use http::Method;
use postern_local::{Api, WorkerFiles};
use serde_json::{Value, json};

use crate::cleanup::{Cleanup, Created, iot};
use crate::error::Error;
use crate::site::Site;

/// Who a worker is.
pub(crate) struct Identity<'a> {
    /// The thing's name without the run's prefix.
    pub(crate) name: &'a str,
    /// The thing's tenant.
    pub(crate) tenant: &'a str,
    /// The thing's group, if any.
    pub(crate) group: Option<&'a str>,
}

impl Identity<'_> {
    /// Creates the thing and its certificate, and writes the worker's files.
    pub(crate) async fn create(&self, site: &Site) -> Result<WorkerFiles, Error> {
        let thing = format!("{}-{}", site.run, self.name);
        let mut attributes = json!({"tenant": self.tenant});
        if let Some(group) = self.group {
            attributes["group"] = json!(group);
        }

        site.cleanup.add(Created::Thing(thing.clone()));
        let body = json!({"attributePayload": {"attributes": attributes}}).to_string();
        iot(&site.api, Method::POST, &format!("/things/{thing}"), &[], body).await?;
        let certificate = self.certificate(site, &thing).await?;

        self.write(site, &thing, &certificate)
    }

    /// Creates the certificate in a task of its own, which an interrupted run does not end half way.
    async fn certificate(&self, site: &Site, thing: &str) -> Result<Value, Error> {
        let delay = site.cleanup.delay().await;
        let (api, cleanup) = (site.api.clone(), site.cleanup.clone());
        let (thing, policy) = (thing.to_owned(), site.outputs.get("WorkerPolicyName").to_owned());

        let created = tokio::spawn(async move {
            let created = create_certificate(&api, &cleanup, thing, policy).await;
            drop(delay);
            created
        });
        created.await.map_err(|error| Error::Aws(format!("IoT CreateKeysAndCertificate: {error}")))?
    }

    fn write(&self, site: &Site, thing: &str, certificate: &Value) -> Result<WorkerFiles, Error> {
        let folder = site.folder.join(self.name);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;

        let mut lines =
            vec![("endpoint", site.broker.as_str()), ("client_id", thing), ("tenant", self.tenant)];
        lines.extend([("cert", "cert.pem"), ("key", "key.pem")]);
        lines.extend(self.group.map(|group| ("group", group)));
        if let Some(ca) = &site.ca {
            secret(&folder.join("ca.pem"), ca)?;
            lines.push(("ca", "ca.pem"));
        }
        let lines: Vec<String> =
            lines.iter().map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();

        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        secret(&folder.join("cert.pem"), &text(&certificate["certificatePem"]))?;
        secret(&folder.join("key.pem"), &text(&certificate["keyPair"]["PrivateKey"]))?;
        secret(&folder.join("worker.toml"), &lines.concat())?;
        Ok(WorkerFiles::in_folder(folder))
    }
}

async fn create_certificate(
    api: &Api,
    cleanup: &Cleanup,
    thing: String,
    policy: String,
) -> Result<Value, Error> {
    let body = iot(api, Method::POST, "/keys-and-certificate?setAsActive=true", &[], "").await?;
    let certificate: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| certificate[name].as_str().unwrap_or_default().to_owned();
    let (id, arn) = (text("certificateId"), text("certificateArn"));
    cleanup.add(Created::Certificate { id, arn: arn.clone(), thing: thing.clone(), policy: policy.clone() });

    let target = json!({"target": arn}).to_string();
    iot(api, Method::PUT, &format!("/target-policies/{policy}"), &[], target).await?;
    let principal = [("x-amzn-principal", arn.as_str())];
    iot(api, Method::PUT, &format!("/things/{thing}/principals"), &principal, "").await?;
    Ok(certificate)
}

/// Writes a file that only this user can read.
fn secret(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.map_err(Error::file(path))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(Error::file(path))
}
