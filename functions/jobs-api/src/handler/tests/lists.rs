//! Lists of jobs.

use super::*;

#[tokio::test]
async fn a_list_is_read_page_by_page_and_a_page_has_at_most_a_hundred_jobs() {
    let services = Services::default();
    let api = api(&services).await;
    for number in 0..3 {
        job(&api, "tenant1", &format!("token {number}"), |_| {}).await;
    }

    let (mut seen, mut cursor, mut first) = (Vec::new(), String::new(), String::new());
    loop {
        let page = get(&format!("/jobs?limit=1{cursor}")).to(&api).await.json;
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 1, "{page}");
        seen.extend(jobs.iter().map(|job| job["jobId"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert!(seen.len() < 10, "the list does not end");
        cursor = format!("&cursor={next}");
        if first.is_empty() {
            first.clone_from(&cursor);
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);

    assert_eq!(get("/jobs?limit=1000000").to(&api).await.problem(), "invalid-request");
    assert_eq!(get("/jobs?cursor=e30").to(&api).await.problem(), "invalid-cursor");
    let elsewhere = get(&format!("/jobs?to=2026-01-01T00:00:00Z{first}")).to(&api).await;
    assert_eq!(elsewhere.problem(), "invalid-cursor", "a cursor of another range of time");
    let never = get("/jobs?to=1214-07-31T12:15:31.8Z").to(&api).await;
    assert_eq!((never.status, &never.json), (200, &json!({"jobs": [], "next": null})));
    assert_eq!(get("/jobs?tenant=tenant2").to(&api).await.problem(), "invalid-request");
    assert_eq!(get("/session?x=1").to(&api).await.problem(), "invalid-request");
}

#[tokio::test]
async fn a_list_that_has_not_changed_is_not_sent_again() {
    let services = Services::default();
    let api = api(&services).await;
    let tag = get("/jobs").to(&api).await.headers["etag"].as_str().unwrap().to_owned();

    let again = get("/jobs").header("if-none-match", &tag).to(&api).await;
    assert_eq!((again.status, &*again.text), (304, ""));
    job(&api, "tenant1", "new", |_| {}).await;
    assert_eq!(get("/jobs").header("if-none-match", &tag).to(&api).await.status, 200);
}
