//! Workers and commands to them.

use super::*;

fn services() -> Services {
    let up = json!({"Worker": "forged", "State": "UP", "Version": "0.1.0", "Kinds": ["add"], "Concurrency": 4,
        "Running": 1, "Waiting": 0, "Jobs": ["a"], "CertificateEnds": "2027-01-01T00:00:00.000Z"});
    let retained = [
        ("tenant1/workers/w2", up.to_string()),
        ("tenant1/workers/w1", json!({"State": "DOWN"}).to_string()),
        ("tenant1/workers/broken", "{".to_owned()),
        ("tenant1/workers/a/b", up.to_string()),
        ("tenant1/other", up.to_string()),
        ("tenant2/workers/w3", up.to_string()),
    ];
    let retained = retained.into_iter().map(|(topic, message)| (topic.to_owned(), message)).collect();
    Services { retained, ..Services::default() }
}

#[tokio::test]
async fn workers_are_those_of_the_tenant_under_the_names_of_their_topics() {
    let services = services();
    let api = api(&services).await;
    let workers = get("/workers").to(&api).await.json;
    let workers = workers["workers"].as_array().unwrap();
    let names: Vec<_> = workers.iter().map(|worker| worker["worker"].as_str().unwrap()).collect();
    assert_eq!(names, ["w1", "w2"]);
    assert_eq!((&workers[0]["state"], &workers[0]["kinds"]), (&json!("DOWN"), &json!([])));
    assert_eq!((&workers[1]["concurrency"], &workers[1]["jobs"]), (&json!(4), &json!(["a"])));
}

#[tokio::test]
async fn commands_go_to_one_worker() {
    let services = services();
    let api = api(&services).await;
    assert_eq!(post("/workers/w2/pause").body(&json!({})).to(&api).await.status, 202);
    assert_eq!(
        post("/workers/w2/resume").header("content-type", "application/json").to(&api).await.status,
        202
    );
    let put = |number: Value| {
        request("PUT", "/workers/w2/concurrency")
            .by("tenant1", "operator")
            .body(&json!({"concurrency": number}))
    };
    assert_eq!(put(json!(8.0)).to(&api).await.status, 202);
    for invalid in [json!(0), json!(1_001), json!(-1), json!(1.5), json!("8"), json!(4_294_967_296_u64)] {
        assert_eq!(put(invalid).to(&api).await.problem(), "invalid-request");
    }

    let calls = services.calls.borrow();
    assert_eq!(
        *calls,
        [
            r#"publish tenant1/to/worker/w2 {"Command":"PAUSE"} 86400"#,
            r#"publish tenant1/to/worker/w2 {"Command":"RESUME"} 86400"#,
            r#"publish tenant1/to/worker/w2 {"Command":"CONCURRENCY","Concurrency":8} 86400"#,
        ]
    );
}

#[tokio::test]
async fn a_worker_of_another_tenant_or_a_forged_name_gets_no_command() {
    let services = services();
    let api = api(&services).await;
    for name in ["w3", "unknown", "cancel", "a%2Fb", "%2B", "..%2F..%2Ftenant2%2Fto%2Fworker%2Fw3", "%23"] {
        let answer = post(&format!("/workers/{name}/pause")).body(&json!({})).to(&api).await;
        assert_eq!(answer.problem(), "not-found", "{name}");
    }
    assert!(services.calls.borrow().is_empty());
}
