//! The requests that the functions make of the table, and how long the API takes to answer, alone and while ten workers
//! report. The functions are the real programs; the table is a stand-in that answers at once, so that the times are those
//! of the API alone.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use postern_lambda::Function;
use postern_local::Project;
use postern_testing::LoopbackServer;
use postern_types::JobId;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::load::{LIMIT, Load, Times, WORKERS};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// The jobs of a worker's message, and of an event of the table's stream.
const JOBS: u32 = 100;

/// How often the API is asked for the same.
const ANSWERS: usize = 100;

/// The variables of the API.
const API: [(&str, &str); 2] = [("API_AUTH", "jwt"), ("DEFAULT_TENANT", "tenant1")];

/// What a service was asked: the operation of a request of DynamoDB, and the number of items of a publication.
type Requests = Arc<Mutex<Vec<String>>>;

/// A table that has every job, a proxy, and the requests that they get.
fn services() -> (LoopbackServer, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let server = LoopbackServer::start(move |request| {
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap());
        let Some(operation) = target.and_then(|target| target.split('.').nth(1)) else {
            let publication: Value = serde_json::from_slice(request.body()).unwrap();
            let items = publication["items"].as_array().unwrap().len();
            seen.lock().unwrap().push(format!("publish {items}"));
            return Response::new(Bytes::from("Published\n"));
        };
        seen.lock().unwrap().push(operation.to_owned());
        Response::new(Bytes::from(answer(operation).to_string()))
    });
    (server, requests)
}

/// What DynamoDB answers: jobs as the template's table and indexes have them, with a full log and twenty attempts.
fn answer(operation: &str) -> Value {
    let listed = json!({
        "Tenant": {"S": "tenant1"}, "JobId": {"S": ID}, "State": {"S": "ACCEPTED"}, "Rank": {"N": "2"},
        "TenantState": {"S": "tenant1#ACCEPTED"}, "Kind": {"S": "sql"}, "Name": {"S": "nightly report"},
        "Execution": {"S": "arn:aws:states:us-east-1:123456789012:execution:on-prem-job:one"},
        "StateName": {"S": "Run"}, "Attempt": {"N": "1"}, "Worker": {"S": "worker-1"}, "Percent": {"N": "42.5"},
        "Message": {"S": "row 425 of 1,000"}, "Resumed": {"BOOL": true}, "Deadline": {"S": "2026-11-25T13:00:00.000Z"},
        "DispatchedAt": {"S": "2026-11-25T12:00:00.000Z"}, "AcceptedAt": {"S": "2026-11-25T12:00:01.000Z"},
    });
    let mut item = listed.clone();
    item["IdempotencyKey"] = json!({"S": "the-key"});
    item["ProgressAt"] = json!({"S": "2026-11-25T12:30:00.000Z"});
    item["Log"] = json!({"L": vec![json!({"S": "a line of a log, of eighty characters: ".repeat(2)}); 200]});
    item["Attempts"] = json!({"L": vec![json!({"S": ID}); 20]});

    match operation {
        "Query" => json!({"Items": vec![listed; 50]}),
        "GetItem" => json!({"Item": item}),
        "BatchGetItem" => json!({"Responses": {"jobs": vec![listed; 20]}, "UnprocessedKeys": {}}),
        _ => json!({"Attributes": listed}),
    }
}

async fn function(name: &str, instances: usize, endpoint: &str, variables: &[(&str, &str)]) -> Function {
    let common = [
        ("AWS_LAMBDA_LOG_LEVEL", "OFF"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("JOBS_TABLE", "jobs"),
    ];
    let program: &Path = &Project::here().unwrap().program(name);
    Function::start(program, instances, &[&common, variables].concat()).await.unwrap()
}

async fn invoke(function: &Function, event: &Value) -> Value {
    let answer = function.invoke(event.to_string().into_bytes()).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// What the services were asked since the last call.
fn asked(requests: &Requests) -> Vec<String> {
    std::mem::take(&mut requests.lock().unwrap())
}

/// A viewer's request, as API Gateway passes it on.
fn get(path: &str) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let claims = json!({"tenant": "tenant1", "roles": "viewer"});
    json!({
        "version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {}, "isBase64Encoded": false,
        "requestContext": {
            "stage": "$default", "http": {"method": "GET", "path": path},
            "authorizer": {"jwt": {"claims": claims, "scopes": null}},
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_makes_few_requests_and_answers_in_time_if_the_table_does() {
    let (server, requests) = services();
    let api = function("jobs-api", 1, &server.url(), &API).await;

    let job = format!("/jobs/{ID}");
    let mut times = Times::default();
    for (name, path, expected) in [
        ("list of 50 jobs", "/jobs?limit=50", &["Query"][..]),
        ("list by state", "/jobs?state=ACCEPTED&limit=50", &["Query"]),
        ("job", &job, &["GetItem"]),
        ("timeline", &format!("{job}/timeline"), &["GetItem", "GetItem", "BatchGetItem"]),
        ("log", &format!("{job}/log"), &["GetItem"]),
    ] {
        for _ in 0..ANSWERS {
            let start = Instant::now();
            let answer = invoke(&api, &get(path)).await;
            times.add(name, start.elapsed());
            assert_eq!(answer["statusCode"], 200, "{path}: {answer}");
            assert_eq!(asked(&requests), expected, "{path}");
        }
    }

    times.print("the API alone");
    check(&times, &Load::from_env());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_while_ten_workers_report_to_a_table_that_answers_at_once() {
    let (load, (server, requests)) = (Load::from_env(), services());
    let api = function("jobs-api", 1, &server.url(), &API).await;
    let progress = function("job-progress", WORKERS, &server.url(), &[]).await;

    let ids = load.ids();
    let messages: Vec<_> = ids.chunks(ids.len().div_ceil(WORKERS)).map(message).collect();
    let reports = async {
        let (start, mut ticks) = (Instant::now(), interval(load.pace));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..load.seconds {
            ticks.tick().await;
            join_all(messages.iter().map(|message| invoke(&progress, message))).await;
        }
        start.elapsed()
    };
    let answers = async {
        let mut times = Times::default();
        loop {
            for (name, path) in [("list of 50 jobs", "/jobs?limit=50"), ("job", &format!("/jobs/{ID}"))] {
                let start = Instant::now();
                assert_eq!(invoke(&api, &get(path)).await["statusCode"], 200);
                times.add(name, start.elapsed());
            }
            sleep(Duration::from_millis(20)).await;
            if reported(&requests, &load) {
                return times;
            }
        }
    };

    let (took, times) = tokio::join!(reports, answers);
    let updates = load.jobs * load.seconds;
    postern_local::say(format_args!("{updates} updates in {took:.1?}"));
    times.print("the API beside them");
    check(&times, &load);
}

/// Whether the table was asked for all updates.
fn reported(requests: &Requests, load: &Load) -> bool {
    let updates = requests.lock().unwrap().iter().filter(|request| *request == "UpdateItem").count();
    updates >= usize::try_from(load.jobs * load.seconds).unwrap()
}

/// A bench fails if the API is slower than the page should wait. A test says nothing about times.
fn check(times: &Times, load: &Load) {
    assert!(!load.is_measured || times.slowest_median() < LIMIT, "{times:?}");
}

/// What a worker reports of its jobs.
fn message(ids: &[JobId]) -> Value {
    let entries = ids.iter().map(|id| {
        json!({"JobId": id, "Percent": 50, "Data": {"row": 500}, "Log": ["a line"], "At": "2026-11-25T12:00:00.000Z"})
    });
    json!({"Jobs": entries.collect::<Vec<_>>(), "tenant": "tenant1", "worker": "w", "receivedAt": 1})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_makes_one_request_for_each_job_and_its_changes_make_one_publication() {
    let (server, requests) = services();
    let url = server.url();
    let progress = function("job-progress", 1, &url, &[("GRIP_URL", &url)]).await;
    let ids: Vec<_> = (0..JOBS).map(|number| JobId::parse(format!("{number:032x}")).unwrap()).collect();

    assert_eq!(invoke(&progress, &message(&ids)).await, json!({"Recorded": JOBS, "Ignored": 0}));
    assert_eq!(asked(&requests), vec!["UpdateItem"; ids.len()]);

    let records = ids.iter().map(|id| {
        let image = json!({"Tenant": {"S": "tenant1"}, "JobId": {"S": id}, "State": {"S": "ACCEPTED"}});
        json!({"eventSource": "aws:dynamodb", "eventName": "MODIFY", "dynamodb": {"NewImage": image}})
    });
    let event = json!({"Records": records.collect::<Vec<_>>()});
    assert_eq!(invoke(&progress, &event).await, json!({"Announced": JOBS}));
    assert_eq!(asked(&requests), [format!("publish {}", 2 * JOBS)]);
}
