//! The page's WebSocket: tickets for it, and the requests by which a GRIP proxy opens it.
//!
//! A browser cannot send a header with a WebSocket, and API Gateway's authorizer does not see the proxy's requests. So
//! the page first fetches a ticket with its bearer token, and shows that when it connects, as the subprotocol
//! `ticket.TICKET`. A ticket names one channel and ends after a minute. The page only listens: what it sends is ignored.

use std::time::{Duration, SystemTime};

use grip::WebSocket;
use grip::channels::{Action, ChannelAuthorizer as _, Grant, Identity};
use http::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use postern_jobs::time_text;
use postern_types::{JobId, Tenant};
use serde::{Deserialize, Serialize};

use crate::config::Live;
use crate::list::pairs;
use crate::problem::Problem;

/// How long a ticket can open a connection.
const TICKET_SECONDS: u32 = 60;

/// The subprotocol that the function accepts.
const PROTOCOL: &str = "postern-live.1";

/// How often the proxy sends a request for an idle connection, in seconds. It shows that the client is still there.
const KEEP_ALIVE_SECONDS: u32 = 300;

/// The close code for a client whose ticket is not valid; a new ticket helps.
const UNAUTHORIZED: u16 = 4401;

/// The body of `POST /live-ticket`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketRequest {
    #[serde(default)]
    channel: Option<String>,
}

/// The right to open one channel.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ticket {
    ticket: String,
    channel: String,
    expires_at: String,
}

/// The channel of a request for a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// All jobs of the caller's tenant.
    Tenant,
    /// One job. The caller's tenant must have it.
    Job(JobId),
}

impl TicketRequest {
    pub(crate) fn channel(&self, tenant: &Tenant) -> Result<Channel, Problem> {
        let Some(channel) = &self.channel else { return Ok(Channel::Tenant) };
        if *channel == name(tenant, &Channel::Tenant) {
            return Ok(Channel::Tenant);
        }

        let job_id = channel.strip_prefix("job-").and_then(|id| JobId::parse(id).ok());
        job_id.map(Channel::Job).ok_or(Problem::NotFound("there is no such channel"))
    }
}

fn name(tenant: &Tenant, channel: &Channel) -> String {
    match channel {
        Channel::Tenant => format!("jobs-{tenant}"),
        Channel::Job(job_id) => format!("job-{job_id}"),
    }
}

/// A ticket for a channel.
pub(crate) fn ticket(
    live: &Live,
    tenant: &Tenant,
    channel: &Channel,
    now: Timestamp,
) -> Result<Ticket, Problem> {
    let channel = name(tenant, channel);
    let identity = Identity {
        subject: Some(tenant.to_string()),
        grants: vec![Grant::new(&channel, [Action::Subscribe])],
        ..Identity::default()
    };
    let lifetime = Duration::from_secs(TICKET_SECONDS.into());

    let ticket =
        live.tickets.issue(&identity, lifetime).ok_or(Problem::Refused { service: "the ticket's key" })?;
    let end = now.saturating_add(SignedDuration::from_secs(TICKET_SECONDS.into())).unwrap_or(Timestamp::MAX);
    Ok(Ticket { ticket, channel, expires_at: time_text(end) })
}

/// The response to a request of the proxy.
pub(crate) struct Served {
    pub(crate) response: Result<Response<Vec<u8>>, Problem>,
    /// Whether a signature or a ticket was not valid: a key may have been replaced.
    pub(crate) is_refused: bool,
}

impl Served {
    fn of(response: Result<Response<Vec<u8>>, Problem>) -> Self {
        Self { response, is_refused: false }
    }
}

/// Answers a request of the proxy.
pub(crate) async fn serve(live: Option<&Live>, request: &Request<Vec<u8>>, now: SystemTime) -> Served {
    let Some(live) = live else { return Served::of(Err(none())) };
    if let Err(problem) = live.verifier.check(request.headers()) {
        tracing::warn!("refused a request: {problem}");
        let problem = Problem::Forbidden("this address is for the GRIP proxy: connect to the proxy's".into());
        return Served { response: Err(problem), is_refused: true };
    }

    let mut ws = match WebSocket::read(request) {
        Ok(ws) => ws.prefixed(&live.prefix),
        Err(problem) => return Served::of(Ok(problem.to_response())),
    };
    if !ws.is_opening() {
        return Served::of(Ok(ws.to_response()));
    }

    ws.accept();
    let Some(channel) = admitted(live, &ws, request, now).await else {
        let _ = ws.close(UNAUTHORIZED, "the ticket is not valid for this channel");
        return Served { response: Ok(ws.to_response()), is_refused: true };
    };
    Served::of(open(&mut ws, &channel).map(|()| ws.to_response()))
}

fn open(ws: &mut WebSocket<'_>, channel: &str) -> Result<(), Problem> {
    let opened = ws.accept_protocol(PROTOCOL).is_ok() && ws.subscribe(channel).is_ok();
    ws.set_keep_alive_interval(KEEP_ALIVE_SECONDS);

    tracing::info!(channel, "live connection opened");
    if opened { Ok(()) } else { Err(Problem::InvalidRequest("the channel's name is too long".into())) }
}

/// The channel of the request, if its ticket allows to listen there.
async fn admitted(
    live: &Live,
    ws: &WebSocket<'_>,
    request: &Request<Vec<u8>>,
    now: SystemTime,
) -> Option<String> {
    let query = pairs(request.uri().query().unwrap_or_default()).ok()?;
    let channel = query.into_iter().find(|(name, _)| name == "channel")?.1;

    let ticket = ws.protocols().find_map(|protocol| protocol.strip_prefix("ticket."));
    let identity = live.tickets.identify(ticket, now).await.ok()?;
    live.tickets.permits(&identity, Action::Subscribe, &channel).then_some(channel)
}

/// The response where no proxy is configured.
pub(crate) fn none() -> Problem {
    Problem::NotFound("no GRIP proxy is configured; fetch the lists from time to time instead")
}

/// Whether a response is the proxy's, to which the headers of the API would mean nothing.
pub(crate) fn is_for_proxy(response: &Response<Vec<u8>>) -> bool {
    response.status() == StatusCode::OK
        && response.headers().get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == grip::CONTENT_TYPE)
}
