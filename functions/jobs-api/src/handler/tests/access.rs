//! Who may see and change what.

use super::*;

#[tokio::test]
async fn the_page_and_the_description_are_open_and_all_else_needs_a_caller() {
    let services = Services::default();
    let api = api(&services).await;
    for path in ["/", "/console.js", "/console.css", "/config.json", "/openapi.json"] {
        assert_eq!(request("GET", path).to(&api).await.status, 200, "{path}");
        assert_eq!(request("POST", path).to(&api).await.problem(), "method-not-allowed", "{path}");
    }

    let id = job(&api, "tenant1", "the-token", |_| {}).await;
    let paths = ["/session", "/jobs", "/machines", "/workers", "/nowhere"].map(str::to_owned);
    for path in paths.into_iter().chain([format!("/jobs/{id}"), format!("/jobs/{id}/log")]) {
        let answer = request("GET", &path).header("authorization", "Bearer a.b.c").to(&api).await;
        assert_eq!((answer.status, answer.problem()), (401, "unauthorized"), "{path}");
    }
}

#[tokio::test]
async fn the_page_has_a_strict_policy_and_every_answer_the_headers_of_security() {
    let services = Services::default();
    let api = api(&services).await;
    let page = request("GET", "/").to(&api).await;
    let policy = page.headers["content-security-policy"].as_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("connect-src 'self' https://issuer.example;"), "{policy}");

    for answer in [page, get("/jobs").to(&api).await, get("/nowhere").to(&api).await] {
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert!(
            answer.headers["content-security-policy"].as_str().unwrap().contains("frame-ancestors 'none'")
        );
    }
}

#[tokio::test]
async fn a_tenant_sees_its_own_jobs_only() {
    let services = Services::default();
    let api = api(&services).await;
    let own = job(&api, "tenant1", "one", |_| {}).await;
    let other = job(&api, "tenant2", "two", |new| new.kind = Some("approval".into())).await;

    let list = get("/jobs").to(&api).await;
    assert_eq!((list.status, list.json["jobs"].as_array().unwrap().len()), (200, 1));
    assert_eq!((&list.json["jobs"][0]["jobId"], &list.json["next"]), (&json!(own), &json!(null)));

    let all = "[viewer operator approver]";
    for (method, path) in [
        ("GET", format!("/jobs/{other}")),
        ("GET", format!("/jobs/{other}/timeline")),
        ("GET", format!("/jobs/{other}/log")),
        ("GET", format!("/jobs/{other}/input")),
        ("GET", format!("/jobs/{other}/result")),
        ("POST", format!("/jobs/{other}/stop")),
        ("POST", format!("/jobs/{other}/approve")),
        ("POST", format!("/jobs/{other}/reject")),
        ("GET", "/jobs/key%230123/log".to_owned()),
        ("GET", "/jobs/ffffffffffffffffffffffffffffffff".to_owned()),
    ] {
        let sent = request(method, &path).by("tenant1", all);
        let sent = if method == "POST" { sent.body(&json!({})) } else { sent };
        let answer = sent.to(&api).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{path}");
    }
    assert!(services.calls.borrow().is_empty());
}

#[tokio::test]
async fn roles_limit_what_a_caller_may_change() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    let stop = format!("/jobs/{id}/stop");
    for (path, roles, allowed) in [
        (stop.as_str(), "viewer", false),
        (&stop, "viewer approver", false),
        (&stop, "operator", true),
        (&format!("/jobs/{id}/approve"), "viewer operator", false),
        ("/jobs", "approver", false),
        ("/workers/w/pause", "viewer", false),
    ] {
        let answer = request("POST", path).by("tenant1", roles).body(&json!({})).to(&api).await;
        assert_eq!(answer.status != 403, allowed, "{path} {roles}: {answer:?}");
    }
    assert_eq!(request("GET", "/jobs").by("tenant1", "").to(&api).await.problem(), "forbidden");
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let services = Services::default();
    let api = api(&services).await;
    let id = job(&api, "tenant1", "one", |_| {}).await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""] {
        let sent = post(&format!("/jobs/{id}/stop")).text(kind, "{}").header("cookie", "token=a.b.c");
        let answer = sent.to(&api).await;
        assert_eq!((answer.status, answer.problem()), (415, "unsupported-media-type"), "{kind}");
    }
    assert!(services.calls.borrow().is_empty());
}
