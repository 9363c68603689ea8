//! Answers a request of API Gateway: the page's files, the API, and the proxy of the page's WebSocket.

use std::time::Instant;

use grip::lambda::{Event, InvalidEvent, LambdaResponse};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use postern_approval::Keyring;
use postern_jobs::{JobItem, Jobs};
use postern_runtime::NamedError;
use postern_runtime::rotation::Rotating;
use postern_runtime::secrets::ReadSecret;
use postern_types::{JobId, Tenant};
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use crate::actions::{self, Start};
use crate::assets;
use crate::caller::Caller;
use crate::config::Config;
use crate::job::Job;
use crate::list::{Query, pairs, unknown};
use crate::live::{self, Channel, TicketRequest};
use crate::payload::payload;
use crate::problem::Problem;
use crate::reply::{asset, finish, json as json_response, policy};
use crate::route::{NO_JOB, Route};
use crate::services::{Broker, StepFunctions};
use crate::timeline::timeline;
use crate::workers::{self, Command};

/// The largest body of a request, in bytes: an input of Step Functions, and what stands around it.
const BODY_BYTES: usize = 300_000;

/// A failure of the function. A caller's mistake is not one: it gets problem details.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        "JobsApi.InvalidEvent"
    }
}

/// The API with the services that it needs.
pub(crate) struct Api<J, S, B, K> {
    /// The configuration, with the keys of the proxy's secret.
    pub(crate) config: Rotating<Config, K>,
    pub(crate) jobs: J,
    pub(crate) step_functions: S,
    pub(crate) broker: B,
    /// The keys of approvals, if the stack has approvals.
    pub(crate) keys: Option<Keyring<K>>,
}

/// A request, and who makes it.
struct Call<'a> {
    config: &'a Config,
    request: &'a Request<Vec<u8>>,
    caller: Caller,
    now: Timestamp,
}

impl<J: Jobs, S: StepFunctions, B: Broker, K: ReadSecret> Api<J, S, B, K> {
    /// Answers an event.
    pub(crate) async fn handle(&self, event: &RawValue, now: Timestamp) -> Result<LambdaResponse, Error> {
        let (request, reply) = Event::parse(event.get())?.into_request()?;

        let response = match self.respond(event, &request, now).await {
            Ok(response) => response,
            Err(problem) => {
                let path = request.uri().path();
                tracing::info!(method = %request.method(), path, problem = problem.kind().0, "request refused");
                problem.response()
            }
        };

        let response = if live::is_for_proxy(&response) { response } else { finish(&request, response) };
        Ok(reply.response(response))
    }

    async fn respond(
        &self,
        event: &RawValue,
        request: &Request<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Response<Vec<u8>>, Problem> {
        let path = request.uri().path();
        if path == "/live" {
            return self.live(request, now).await;
        }

        let config = self.config.current();
        if let Some(response) = open(&config, request.method(), path) {
            return response;
        }

        // The caller comes first, so that a stranger learns nothing, not even which paths exist.
        let caller = Caller::of_event(event, config.auth, &config.default_tenant)?;
        let route = Route::find(request.method(), path)?;
        caller.needs(route.role())?;
        self.answer(route, &Call { config: &config, request, caller, now }).await
    }

    /// Answers a request of the proxy, and once more if a key was wrong and the secret has changed since it was read.
    async fn live(&self, request: &Request<Vec<u8>>, now: Timestamp) -> Result<Response<Vec<u8>>, Problem> {
        let served = live::serve(self.config.current().live.as_ref(), request, now.into()).await;
        if served.is_refused && self.config.read_again(Instant::now()).await {
            return live::serve(self.config.current().live.as_ref(), request, now.into()).await.response;
        }
        served.response
    }

    async fn answer(&self, route: Route, call: &Call<'_>) -> Result<Response<Vec<u8>>, Problem> {
        let tenant = &call.caller.tenant;
        if !matches!(route, Route::List) {
            no_query(call.request)?;
        }

        match route {
            Route::Session => {
                let is_live = call.config.live.is_some();
                let session = json!({"tenant": tenant, "roles": call.caller.roles, "live": is_live});
                Ok(json_response(StatusCode::OK, &session))
            }
            Route::Machines => Ok(machines(call.config, tenant)),
            Route::List => self.list(call).await,
            Route::Job(id) => Ok(json_response(StatusCode::OK, &Job::from(self.job(tenant, &id).await?))),
            Route::Timeline(id) => {
                let job = self.job(tenant, &id).await?;
                let events = timeline(&self.jobs, tenant, &job).await.map_err(|error| of_table(&error))?;
                Ok(json_response(StatusCode::OK, &json!({"events": events})))
            }
            Route::Log(id) => {
                Ok(json_response(StatusCode::OK, &json!({"lines": self.job(tenant, &id).await?.log})))
            }
            Route::Payload(id, which) => {
                let job = self.job(tenant, &id).await?;
                let execution = job.execution.ok_or(Problem::NotFound("the job names no execution"))?;
                let payload = payload(&self.step_functions, &execution, id.as_str(), which).await?;
                Ok(json_response(StatusCode::OK, &payload))
            }
            Route::Workers => {
                let workers = workers::workers(&self.broker, tenant).await?;
                Ok(json_response(StatusCode::OK, &json!({"workers": workers})))
            }
            change => self.change(change, call).await,
        }
    }

    /// Answers a request that changes something. A cookie is never a credential here, and a form of another site cannot
    /// send JSON.
    async fn change(&self, route: Route, call: &Call<'_>) -> Result<Response<Vec<u8>>, Problem> {
        let (request, tenant) = (call.request, &call.caller.tenant);
        match route {
            Route::Start => {
                let key = idempotency_key(request.headers())?;
                let start: Start = body(request)?;
                let started = actions::start(&self.step_functions, call.config, tenant, key, start).await?;
                Ok(json_response(StatusCode::ACCEPTED, &started))
            }
            Route::Stop(id) => {
                let stop = body(request)?;
                let job = self.job(tenant, &id).await?;
                actions::stop(&self.step_functions, &self.broker, &job, stop, call.now).await?;
                Ok(accepted())
            }
            Route::Decide(id, verdict) => {
                let comment = body(request)?;
                let job = self.job(tenant, &id).await?;
                let (step_functions, keys) = (&self.step_functions, self.keys.as_ref());
                actions::decide(step_functions, &self.jobs, keys, &job, verdict, comment, call.now).await?;
                Ok(accepted())
            }
            Route::Pause(worker) => self.command(call, &worker, Command::Pause).await,
            Route::Resume(worker) => self.command(call, &worker, Command::Resume).await,
            Route::Concurrency(worker) => {
                let Concurrency { concurrency } = body(request)?;
                self.send(tenant, &worker, Command::concurrency(&concurrency)?).await
            }
            Route::LiveTicket => self.ticket(call).await,
            _ => Err(NO_JOB),
        }
    }

    async fn command(
        &self,
        call: &Call<'_>,
        worker: &str,
        command: Command,
    ) -> Result<Response<Vec<u8>>, Problem> {
        let Nothing {} = body(call.request)?;
        self.send(&call.caller.tenant, worker, command).await
    }

    async fn send(
        &self,
        tenant: &Tenant,
        worker: &str,
        command: Command,
    ) -> Result<Response<Vec<u8>>, Problem> {
        workers::command(&self.broker, tenant, worker, command).await?;
        Ok(accepted())
    }

    async fn ticket(&self, call: &Call<'_>) -> Result<Response<Vec<u8>>, Problem> {
        let request: TicketRequest = body(call.request)?;
        let live = call.config.live.as_ref().ok_or_else(live::none)?;
        let tenant = &call.caller.tenant;

        let channel = request.channel(tenant)?;
        if let Channel::Job(id) = &channel {
            self.job(tenant, id).await?;
        }
        Ok(json_response(StatusCode::OK, &live::ticket(live, tenant, &channel, call.now)?))
    }

    async fn list(&self, call: &Call<'_>) -> Result<Response<Vec<u8>>, Problem> {
        let query = Query::parse(call.request.uri().query().unwrap_or_default())?;
        let Query { filter, after, limit } = &query;
        if after.as_ref().is_some_and(|after| !filter.contains(after)) {
            return Err(Problem::InvalidCursor);
        }

        if filter.is_empty() {
            return Ok(json_response(StatusCode::OK, &json!({"jobs": [], "next": null})));
        }

        let page = self.jobs.list(&call.caller.tenant, filter, *limit, after.as_ref()).await;
        let page = page.map_err(|error| of_table(&error))?;

        let jobs: Vec<_> = page.jobs.into_iter().map(Job::from).collect();
        let next = page.next.map(|next| next.text());
        Ok(json_response(StatusCode::OK, &json!({"jobs": jobs, "next": next})))
    }

    /// A job of the tenant.
    async fn job(&self, tenant: &Tenant, id: &JobId) -> Result<JobItem, Problem> {
        self.jobs.get(tenant, id).await.map_err(|error| of_table(&error))?.ok_or(NO_JOB)
    }
}

/// The files that everybody may read.
fn open(config: &Config, method: &Method, path: &str) -> Option<Result<Response<Vec<u8>>, Problem>> {
    let response = match assets::find(path) {
        Some(file) => asset(file, &policy(&config.origins())),
        None if path == "/config.json" => {
            let settings = json!({
                "auth": config.auth.name(),
                "issuer": config.issuer,
                "clientId": config.client_id,
                "audience": config.audience,
                "live": config.live.as_ref().map(|live| live.url.as_str()),
            });
            json_response(StatusCode::OK, &settings)
        }
        None => return None,
    };
    Some(if *method == Method::GET { Ok(response) } else { Err(Problem::MethodNotAllowed("GET")) })
}

fn machines(config: &Config, tenant: &Tenant) -> Response<Vec<u8>> {
    let machines = config.machines.iter().filter(|machine| machine.tenant == *tenant);
    let machines: Vec<_> = machines.map(|machine| json!({"name": machine.name})).collect();
    json_response(StatusCode::OK, &json!({"machines": machines}))
}

/// The body of `PUT /workers/{worker}/concurrency`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Concurrency {
    concurrency: serde_json::Number,
}

/// A body without members.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn accepted() -> Response<Vec<u8>> {
    json_response(StatusCode::ACCEPTED, &json!({}))
}

fn of_table(error: &postern_jobs::Error) -> Problem {
    const SERVICE: &str = "DynamoDB";
    tracing::error!("the table of jobs cannot be read: {error}");
    match error {
        postern_jobs::Error::Unavailable(_) => Problem::Unavailable { service: SERVICE },
        postern_jobs::Error::Refused(_) | postern_jobs::Error::Malformed(_) => {
            Problem::Refused { service: SERVICE }
        }
    }
}

fn no_query(request: &Request<Vec<u8>>) -> Result<(), Problem> {
    match pairs(request.uri().query().unwrap_or_default())?.first() {
        Some((name, _)) => Err(unknown(name)),
        None => Ok(()),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let key = headers.get("idempotency-key").map(|key| key.to_str());
    key.transpose().map_err(|_| Problem::InvalidRequest("Idempotency-Key must be printable ASCII".into()))
}

/// The body of a request that changes something: a JSON object.
fn body<T: DeserializeOwned>(request: &Request<Vec<u8>>) -> Result<T, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();

    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::UnsupportedMediaType);
    }

    // A request without a body says what an empty object says.
    let body = if request.body().is_empty() { &b"{}"[..] } else { request.body().as_slice() };
    if body.len() > BODY_BYTES {
        return Err(Problem::TooLarge(format!(
            "the body has {} bytes; at most {BODY_BYTES} are read",
            body.len()
        )));
    }

    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::InvalidRequest("the body must be a JSON object".into()));
    }

    serde_json::from_slice(body).map_err(|error| Problem::InvalidRequest(format!("the body: {error}")))
}

#[cfg(test)]
pub(crate) mod tests;
