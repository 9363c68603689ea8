//! The paths of the API, their methods, and the role that each needs.

use http::Method;
use percent_encoding::percent_decode_str;
use postern_types::JobId;

use crate::actions::Verdict;
use crate::caller::Role;
use crate::payload::Payload;
use crate::problem::Problem;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Session,
    Machines,
    List,
    Start,
    Job(JobId),
    Timeline(JobId),
    Log(JobId),
    Payload(JobId, Payload),
    Stop(JobId),
    Decide(JobId, Verdict),
    Workers,
    Pause(String),
    Resume(String),
    Concurrency(String),
    LiveTicket,
}

/// A path that exists: its methods, for the header `Allow`, and the routes of each.
struct Path {
    allow: &'static str,
    routes: Vec<(Method, Route)>,
}

impl Route {
    /// The route of a request to a path that needs a caller.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, Problem> {
        const NO_PATH: Problem = Problem::NotFound("there is no such path; /openapi.json lists them");
        let segments = segments(path).ok_or(NO_PATH)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();

        let Path { allow, routes } = match segments.as_slice() {
            ["jobs", id, rest @ ..] => {
                // An id that cannot be one is treated as one that the tenant does not have.
                let id = JobId::parse(*id).map_err(|_| NO_JOB)?;
                of_job(id, rest)
            }
            ["workers", name, command] => of_worker((*name).to_owned(), command),
            other => of_lists(other),
        }
        .ok_or(NO_PATH)?;

        let route = routes.into_iter().find(|(other, _)| other == method).map(|(_, route)| route);
        route.ok_or(Problem::MethodNotAllowed(allow))
    }

    /// The role that the route needs.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Start | Self::Stop(_) | Self::Pause(_) | Self::Resume(_) | Self::Concurrency(_) => {
                Role::Operator
            }
            Self::Decide(..) => Role::Approver,
            _ => Role::Viewer,
        }
    }
}

/// The tenant has no job of this id. Whether another tenant has it makes no difference.
pub(crate) const NO_JOB: Problem = Problem::NotFound("there is no such job");

/// The segments of a path, decoded.
fn segments(path: &str) -> Option<Vec<String>> {
    let segments = path.strip_prefix('/')?.split('/');
    let decoded = segments.map(|segment| {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        Some(segment.into_owned())
    });
    decoded.collect()
}

fn get(route: Route) -> Path {
    Path { allow: "GET", routes: vec![(Method::GET, route)] }
}

fn post(route: Route) -> Path {
    Path { allow: "POST", routes: vec![(Method::POST, route)] }
}

fn of_lists(segments: &[&str]) -> Option<Path> {
    match segments {
        ["session"] => Some(get(Route::Session)),
        ["machines"] => Some(get(Route::Machines)),
        ["workers"] => Some(get(Route::Workers)),
        ["live-ticket"] => Some(post(Route::LiveTicket)),
        ["jobs"] => {
            let routes = vec![(Method::GET, Route::List), (Method::POST, Route::Start)];
            Some(Path { allow: "GET, POST", routes })
        }
        _ => None,
    }
}

fn of_job(id: JobId, rest: &[&str]) -> Option<Path> {
    match rest {
        [] => Some(get(Route::Job(id))),
        ["timeline"] => Some(get(Route::Timeline(id))),
        ["log"] => Some(get(Route::Log(id))),
        ["input"] => Some(get(Route::Payload(id, Payload::Input))),
        ["result"] => Some(get(Route::Payload(id, Payload::Result))),
        ["stop"] => Some(post(Route::Stop(id))),
        ["approve"] => Some(post(Route::Decide(id, Verdict::Approve))),
        ["reject"] => Some(post(Route::Decide(id, Verdict::Reject))),
        _ => None,
    }
}

fn of_worker(name: String, command: &str) -> Option<Path> {
    match command {
        "pause" => Some(post(Route::Pause(name))),
        "resume" => Some(post(Route::Resume(name))),
        "concurrency" => Some(Path { allow: "PUT", routes: vec![(Method::PUT, Route::Concurrency(name))] }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_path_is_found_with_its_methods_only() {
        assert_eq!(Route::find(&Method::GET, "/jobs"), Ok(Route::List));
        assert_eq!(Route::find(&Method::POST, "/jobs"), Ok(Route::Start));
        assert_eq!(Route::find(&Method::DELETE, "/jobs"), Err(Problem::MethodNotAllowed("GET, POST")));
        let paused = Route::Pause("plant:1".into());
        assert_eq!(Route::find(&Method::POST, "/workers/plant%3A1/pause"), Ok(paused));
        assert_eq!(
            Route::find(&Method::GET, "/workers/w/concurrency"),
            Err(Problem::MethodNotAllowed("PUT"))
        );
        for path in
            ["/", "//jobs", "/jobs/", "/Jobs", "/workers/w", "/workers/%ff/pause", "/live", "/jobs/../jobs"]
        {
            assert!(matches!(Route::find(&Method::GET, path), Err(Problem::NotFound(_))), "{path}");
        }
    }

    #[test]
    fn an_id_that_cannot_be_one_is_a_job_that_does_not_exist() {
        for id in ["key%23abc", "%2e%2e", "0", &ID.to_uppercase(), &format!("{ID}0")] {
            assert_eq!(Route::find(&Method::GET, &format!("/jobs/{id}/log")), Err(NO_JOB), "{id}");
        }
    }

    #[test]
    fn every_change_needs_more_than_the_role_viewer() {
        for (method, path) in [
            (Method::POST, "/jobs".to_owned()),
            (Method::POST, format!("/jobs/{ID}/stop")),
            (Method::POST, format!("/jobs/{ID}/approve")),
            (Method::POST, format!("/jobs/{ID}/reject")),
            (Method::POST, "/workers/w/pause".to_owned()),
            (Method::POST, "/workers/w/resume".to_owned()),
            (Method::PUT, "/workers/w/concurrency".to_owned()),
        ] {
            assert_ne!(Route::find(&method, &path).unwrap().role(), Role::Viewer, "{path}");
        }
    }
}
