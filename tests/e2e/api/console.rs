//! A stack with a console, and requests to its API.

use aws_sdk_iotdataplane::primitives::Blob;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use postern_local::{Deployment, Project};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use super::people::People;
use crate::stack::{Stack, TIMEOUT};

/// A stack with a console and approvals, and its issuer.
pub(super) struct Console {
    pub(super) stack: Stack,
    people: People,
    agent: Agent,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Console {
    pub(super) async fn start(name: &str) -> Self {
        Self::with(name, |deployment| deployment).await
    }

    pub(super) async fn with(name: &str, change: impl FnOnce(Deployment) -> Deployment) -> Self {
        let project = Project::here().unwrap();
        let people =
            People::start(&project, &project.file(".postern/tests").join(format!("{name}-issuer"))).await;
        let stack = Stack::with(name, change(deployment(&people))).await;
        let agent =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build().into();
        Self { stack, people, agent }
    }

    /// The deployment of this stack, for a change of its parameters.
    pub(super) fn deployment(&self) -> Deployment {
        deployment(&self.people)
    }

    pub(super) fn issuer(&self) -> &str {
        self.people.issuer.url()
    }

    pub(super) async fn another_issuer(&self, name: &str) -> People {
        People::start(&self.stack.project, &self.stack.project.file(".postern/tests").join(name)).await
    }

    /// The access token of a user.
    pub(super) fn token(&self, user: &str) -> String {
        self.people.token(user)
    }

    /// The base of the API's paths on the emulator's own address: `*.localhost` is not resolved everywhere.
    pub(super) fn url(&self) -> String {
        let host = self.host();
        let api = host.split('.').next().unwrap();
        format!("{}/_aws/execute-api/{api}/$default", self.stack.emulator.endpoint())
    }

    /// The host name of the page, without the port.
    pub(super) fn host(&self) -> String {
        let url = self.stack.outputs.get("ConsoleUrl").trim_start_matches("http://");
        url.split(':').next().unwrap().to_owned()
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url()));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body.map(Value::to_string).unwrap_or_default()).unwrap();

        let agent = self.agent.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut answer = agent.run(request).unwrap();
            let body = answer.body_mut().read_to_string().unwrap();
            Response { status: answer.status().as_u16(), headers: answer.headers().clone(), body }
        });
        answer.await.unwrap()
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let response = self.call("GET", path, token, None, &[]).await;
        (response.status, response.json())
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: &Value) -> u16 {
        self.call("POST", path, token, Some(body), &[]).await.status
    }

    /// Starts a machine.
    pub(super) async fn begin(&self, operator: &str, machine: &str, input: &Value) {
        let body = json!({"machine": machine, "input": input});
        assert_eq!(self.post("/jobs", operator, &body).await, 202);
    }

    /// Waits until a job is in a state.
    pub(super) async fn job_in(&self, token: &str, state: &str) -> Value {
        self.job(token, |job| job["state"] == state).await
    }

    /// Waits until there is a job as described.
    pub(super) async fn job(&self, token: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + TIMEOUT;
        loop {
            let (status, list) = self.get("/jobs", token).await;
            assert_eq!(status, 200, "{list}");
            if let Some(job) = list["jobs"].as_array().unwrap().iter().find(|job| is_it(job)) {
                return job.clone();
            }
            assert!(Instant::now() < end, "there is no such job in {list}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Publishes a retained message with the emulator's root credentials.
    pub(super) async fn retain(&self, topic: &str, message: &Value) {
        let iot = aws_sdk_iotdataplane::Client::new(&self.stack.emulator.sdk_config());
        let payload = Blob::new(message.to_string());
        iot.publish().topic(topic).qos(1).retain(true).payload(payload).send().await.unwrap();
    }
}

fn deployment(people: &People) -> Deployment {
    people.issuer.console(Deployment::new("test").parameter("Approvals", "true"))
}

/// A token with the same claims, and no signature.
pub(super) fn with_algorithm_none(token: &str) -> String {
    let header: Value =
        serde_json::from_slice(&BASE64.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let header = json!({"alg": "none", "typ": "JWT", "kid": header["kid"]});
    format!("{}.{}.", BASE64.encode(header.to_string()), token.split('.').nth(1).unwrap())
}

/// A token in whose claims `from` is replaced by `to`.
pub(super) fn forged(token: &str, from: &str, to: &str) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let claims = String::from_utf8(BASE64.decode(parts[1]).unwrap()).unwrap();
    assert!(claims.contains(from));
    format!("{}.{}.{}", parts[0], BASE64.encode(claims.replace(from, to)), parts[2])
}
