//! The HTTP API behind the emulator's JWT authorizer, with tokens of the local issuer.

mod calls;
mod console;
mod description;
mod hints;
mod load;
mod page;
mod people;
mod proxy;

use bytes::Bytes;
use http::Method;
use postern_local::{Api, Call, Deployment};
use serde_json::{Value, json};

use console::{Console, forged, with_algorithm_none};

#[tokio::test(flavor = "multi_thread")]
async fn the_api_takes_valid_tokens_of_its_issuer_only() {
    let console = Console::start("api-tokens").await;
    let token = console.token("viewer1");
    assert_eq!(
        console.get("/session", &token).await,
        (200, json!({"tenant": "tenant1", "roles": ["viewer"], "live": false}))
    );

    let other_issuer = console.another_issuer("api-tokens-other").await;
    let foreign = other_issuer.token("viewer1");
    let expired = console.token("expired");
    for (what, token) in [
        ("no token", String::new()),
        ("no JWT", "abc".to_owned()),
        ("alg none", with_algorithm_none(&token)),
        ("another tenant in the claims", forged(&token, "tenant1", "tenant2")),
        ("a token of another issuer", foreign),
        ("an expired token", expired),
    ] {
        for path in [
            "/session",
            "/jobs",
            "/machines",
            "/workers",
            "/jobs/0123456789abcdef0123456789abcdef",
            "/nowhere",
        ] {
            assert_eq!(console.get(path, &token).await.0, 401, "{what} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_files_need_no_token() {
    let console = Console::start("api-page").await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/config.json", "application/json"),
        ("/openapi.json", "application/json"),
    ] {
        let response = console.call("GET", path, "", None, &[]).await;
        assert_eq!((response.status, response.header("content-type")), (200, kind), "{path}");
        let tag = response.header("etag").to_owned();
        let again = console.call("GET", path, "", None, &[("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }

    let config = console.call("GET", "/config.json", "", None, &[]).await.json();
    assert_eq!((&config["issuer"], &config["clientId"]), (&json!(console.issuer()), &json!("console")));
    let page = console.call("GET", "/", "", None, &[]).await;
    assert!(page.header("content-security-policy").contains(console.issuer()), "{page:?}");
    assert_eq!(console.call("GET", "/nowhere.js", "", None, &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_starts_a_job_sees_it_and_its_result() {
    let mut console = Console::start("api-jobs").await;
    console.stack.worker().await;
    let operator = console.token("operator1");

    let body = json!({"machine": "on-prem-job", "input": {"a": 40, "b": 2}});
    let key = [("idempotency-key", "order-7")];
    let started = console.call("POST", "/jobs", &operator, Some(&body), &key).await;
    assert_eq!(started.status, 202, "{started:?}");
    let again = console.call("POST", "/jobs", &operator, Some(&body), &key).await;
    assert_eq!((again.status, again.json()), (202, started.json()));
    let other = json!({"machine": "on-prem-job", "input": {"a": 1, "b": 1}});
    assert_eq!(console.call("POST", "/jobs", &operator, Some(&other), &key).await.status, 409);

    let execution = started.json()["execution"].as_str().unwrap().to_owned();
    assert_eq!(console.stack.end(&execution).await.status, "SUCCEEDED");
    let after = console.call("POST", "/jobs", &operator, Some(&body), &key).await;
    assert_eq!((after.status, after.json()), (202, started.json()), "the execution has ended");

    let job = console.job_in(&operator, "SUCCEEDED").await;
    assert_eq!((&job["execution"], &job["kind"]), (&json!(execution), &json!("add")));
    let path = |rest: &str| format!("/jobs/{}{rest}", job["jobId"].as_str().unwrap());
    assert_eq!(console.get(&path("/input"), &operator).await, (200, json!({"a": 40, "b": 2})));
    assert_eq!(console.get(&path("/result"), &operator).await, (200, json!({"result": 42})));
    let timeline = console.get(&path("/timeline"), &operator).await.1;
    let kinds: Vec<_> =
        timeline["events"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&json!("dispatched")), Some(&json!("done"))),
        "{timeline}"
    );

    let stranger = console.token("operator2");
    assert_eq!(console.get("/jobs", &stranger).await.1["jobs"], json!([]));
    for rest in ["", "/timeline", "/log", "/input", "/result"] {
        assert_eq!(console.get(&path(rest), &stranger).await.0, 404, "{rest}");
    }
    assert_eq!(console.post(&path("/stop"), &stranger, &json!({})).await, 404);
    let viewer = console.token("viewer1");
    assert_eq!(console.post(&path("/stop"), &viewer, &json!({})).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_stops_a_job() {
    let console = Console::start("api-stop").await;
    let operator = console.token("operator1");
    let body = json!({"machine": "on-prem-job", "input": {"a": 1, "b": 2}});
    let started = console.call("POST", "/jobs", &operator, Some(&body), &[]).await.json();
    let execution = started["execution"].as_str().unwrap();

    let job = console.job_in(&operator, "DISPATCHED").await;
    let stop = format!("/jobs/{}/stop", job["jobId"].as_str().unwrap());
    assert_eq!(console.post(&stop, &operator, &json!({"reason": "no longer <needed>"})).await, 202);
    let finished = console.stack.end(execution).await;
    assert_eq!(
        (&*finished.status, finished.error.as_deref()),
        ("ABORTED", Some("Job.Stopped")),
        "{finished:?}"
    );
    assert_eq!(finished.cause.as_deref(), Some("no longer <needed>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_decide_in_the_console_what_a_link_would_decide() {
    let mut console = Console::start("api-approve").await;
    console.stack.worker().await;
    let (operator, approver) = (console.token("operator1"), console.token("approver1"));
    let question = json!({"question": "Restart <line> 7?", "job": {"a": 1, "b": 2}});

    for (decision, state, status) in [("approve", "SUCCEEDED", "SUCCEEDED"), ("reject", "FAILED", "FAILED")] {
        let body = json!({"machine": "approve", "input": question});
        let started = console.call("POST", "/jobs", &operator, Some(&body), &[]).await.json();
        let execution = started["execution"].as_str().unwrap();
        let job =
            console.job(&operator, |job| job["execution"] == execution && job["approval"] == true).await;
        assert_eq!(job["name"], "Restart <line> 7?");

        let path = format!("/jobs/{}/{decision}", job["jobId"].as_str().unwrap());
        assert_eq!(console.post(&path, &operator, &json!({})).await, 403, "an operator decides nothing");
        for _ in 0..2 {
            assert_eq!(console.post(&path, &approver, &json!({"comment": "as planned"})).await, 202);
        }
        let decided = console.get(&format!("/jobs/{}", job["jobId"].as_str().unwrap()), &approver).await.1;
        assert_eq!((&decided["state"], &decided["approval"]), (&json!(state), &json!(false)));

        let finished = console.stack.end(execution).await;
        assert_eq!(finished.status, status, "{finished:?}");
        if decision == "reject" {
            assert_eq!(finished.error.as_deref(), Some("Approval.Rejected"));
        } else {
            let output: Value = serde_json::from_str(&finished.output.unwrap()).unwrap();
            assert_eq!(output["approval"], json!({"comment": "as planned", "decision": "APPROVED"}));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_seen_by_their_retained_messages_and_commanded_by_name() {
    let console = Console::start("api-workers").await;
    for (topic, state) in [("tenant1/workers/w1", "UP"), ("tenant2/workers/w2", "UP")] {
        console
            .retain(topic, &json!({"Worker": "w", "State": state, "Kinds": ["add"], "Concurrency": 4}))
            .await;
    }
    let (operator, stranger) = (console.token("operator1"), console.token("operator2"));
    let workers = console.get("/workers", &operator).await.1;
    assert_eq!(
        (workers["workers"].as_array().unwrap().len(), &workers["workers"][0]["worker"]),
        (1, &json!("w1"))
    );
    assert_eq!(console.get("/workers", &stranger).await.1["workers"][0]["worker"], "w2");

    assert_eq!(console.post("/workers/w1/pause", &operator, &json!({})).await, 202);
    assert_eq!(console.post("/workers/w2/pause", &operator, &json!({})).await, 404);
    assert_eq!(console.post("/workers/w1/pause", &stranger, &json!({})).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_query_the_table_a_list_is_refused_by_name() {
    let console = Console::with("api-no-query", |deployment: Deployment| {
        deployment.edit(
            "template.yml",
            "Action: dynamodb:Query\n                Resource: !Sub ${JobsTable.Arn}/index/*",
            "Action: dynamodb:Scan\n                Resource: !Sub ${JobsTable.Arn}/index/*",
        )
    })
    .await;
    let viewer = console.token("viewer1");
    let (status, problem) = console.get("/jobs", &viewer).await;
    assert_eq!(status, 500);
    assert!(problem["type"].as_str().unwrap().ends_with("#refused"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_iam_a_signed_request_sees_the_default_tenant_and_no_other_request_sees_anything() {
    let console = Console::with("api-iam", |deployment| deployment.parameter("ApiAuth", "iam")).await;
    let token = console.token("admin1");
    for token in ["", &token] {
        assert!([401, 403].contains(&console.get("/session", token).await.0));
    }

    let emulator = &console.stack.emulator;
    let path = format!("{}/session", console.url().trim_start_matches(&emulator.endpoint()));
    let call =
        Call { service: "execute-api", method: Method::GET, path: &path, headers: &[], body: Bytes::new() };
    let session = Api::new(emulator.sdk_config()).unwrap().send("GET /session", call).await.unwrap();
    let session: Value = serde_json::from_slice(&session).unwrap();
    assert_eq!((&session["tenant"], session["roles"].as_array().unwrap().len()), (&json!("tenant1"), 3));
}
