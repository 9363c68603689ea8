use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use postern_testing::LoopbackServer;
use serde_json::Value;

use super::*;

const ID: &str = "ba7816bf8f01cfea414140de5dae2223";

/// The requests that a service got: target and body.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A table whose service gives these answers, one after the other, and the requests that it got.
fn table(answers: Vec<(u16, Value)>) -> (DynamoJobs, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let server = LoopbackServer::start(move |request| {
        let mut seen = seen.lock().unwrap();
        let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
        seen.push((target, serde_json::from_slice(request.body()).unwrap()));
        let (status, body) = &answers[answers.len().min(seen.len()) - 1];
        Response::builder().status(*status).body(Bytes::from(body.to_string())).unwrap()
    });

    let url = server.url();
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("JOBS_TABLE", "jobs"),
    ];
    (DynamoJobs::from_env(&Environment::of(&variables)).unwrap().unwrap(), requests)
}

fn tenant() -> Tenant {
    Tenant::parse("tenant1").unwrap()
}

fn id() -> JobId {
    JobId::parse(ID).unwrap()
}

fn progress(log: &[&str]) -> Progress {
    Progress {
        job_id: id(),
        percent: Some(42.0),
        message: Some("half".into()),
        data: Some("{\"row\":7}".into()),
        log: log.iter().map(|&line| line.to_owned()).collect(),
        at: Timestamp::UNIX_EPOCH,
    }
}

/// The item of a job, as `UpdateItem` returns it.
fn job_item(log: &[String]) -> Value {
    json!({"Attributes": {
        "Tenant": {"S": "tenant1"}, "JobId": {"S": ID}, "State": {"S": "ACCEPTED"}, "Rank": {"N": "2"},
        "IdempotencyKey": {"S": "the-key"}, "ProgressAt": {"S": "1970-01-01T00:00:00.000Z"},
        "Percent": {"N": "42"}, "Log": {"L": log.iter().map(|line| json!({"S": line})).collect::<Vec<_>>()},
    }})
}

#[test]
fn without_its_variable_there_is_no_table() {
    assert!(DynamoJobs::from_env(&Environment::of(&[])).unwrap().is_none());
}

#[tokio::test]
async fn every_name_and_value_of_an_update_is_used_and_defined() {
    let (table, requests) = table(vec![(200, job_item(&[]))]);
    let mut job = NewJob::new(tenant(), id(), Timestamp::UNIX_EPOCH);
    job.execution = Some(String::new());
    job.attempt = Some(2);
    job.idempotency_key = Some("the-key".into());

    table.dispatched(&job).await.unwrap();
    table.accepted(&tenant(), &id(), Some("worker-1"), Timestamp::UNIX_EPOCH).await.unwrap();
    let end = End::new(State::Succeeded, Rank::Answered);
    table.ended(&tenant(), &id(), &end, Timestamp::UNIX_EPOCH).await.unwrap();
    table.progress(&tenant(), Some("worker-1"), &progress(&["a line"])).await.unwrap();

    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 5);
    for (target, body) in &*requests {
        assert_eq!(target, "DynamoDB_20120810.UpdateItem");
        let text = format!("{} {}", body["UpdateExpression"], body["ConditionExpression"]);
        let mut used: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && !":#".contains(c)).collect();
        used.retain(|word| word.starts_with([':', '#']));
        used.sort_unstable();
        used.dedup();
        let names = body["ExpressionAttributeNames"].as_object().unwrap().keys();
        let values = body["ExpressionAttributeValues"].as_object().unwrap().keys();
        let mut defined: Vec<_> = names.chain(values).map(String::as_str).collect();
        defined.sort_unstable();
        assert_eq!(used, defined, "{body}");
    }
    // An index accepts no empty key.
    assert!(requests.iter().all(|(_, body)| body["ExpressionAttributeValues"].get(":Execution").is_none()));
}

#[tokio::test]
async fn a_job_begins_with_the_progress_that_it_carries() {
    let (table, requests) = table(vec![(200, json!({}))]);
    let job =
        NewJob { resume: Some("{\"row\":7}".into()), ..NewJob::new(tenant(), id(), Timestamp::UNIX_EPOCH) };
    table.dispatched(&job).await.unwrap();

    let values = &requests.lock().unwrap()[0].1["ExpressionAttributeValues"];
    assert_eq!((&values[":Resumed"]["BOOL"], &values[":Data"]["S"]), (&json!(true), &json!("{\"row\":7}")));
}

#[tokio::test]
async fn a_log_that_has_grown_over_its_bounds_is_shortened() {
    for (lines, bytes, kept) in [(201, 1, 100), (15, 1_999, 5)] {
        let log: Vec<_> = (0..lines).map(|line| format!("{line:0bytes$}")).collect();
        let (table, requests) = table(vec![(200, job_item(&log))]);
        let job = table.progress(&tenant(), None, &progress(&["x"])).await.unwrap().unwrap();

        let shortened = &requests.lock().unwrap()[1].1;
        let after = shortened["ExpressionAttributeValues"][":Log"]["L"].as_array().unwrap();
        assert_eq!((after.len(), job.log.len()), (kept, kept));
        assert_eq!(after.last().unwrap()["S"], *log.last().unwrap());
        assert_eq!(shortened["ConditionExpression"], "#ProgressAt = :At");
    }
}

#[tokio::test]
async fn a_condition_that_is_not_met_is_no_error() {
    let refused = (400, json!({"__type": "x#ConditionalCheckFailedException"}));
    let (table, _) = table(vec![refused]);
    assert_eq!(table.progress(&tenant(), None, &progress(&[])).await, Ok(None));
    assert_eq!(table.accepted(&tenant(), &id(), None, Timestamp::UNIX_EPOCH).await, Ok(false));
}

#[tokio::test]
async fn a_throttled_call_is_repeated_and_a_refused_one_is_named() {
    let throttled = (400, json!({"__type": "ProvisionedThroughputExceededException"}));
    let (busy, requests) = table(vec![throttled.clone(), throttled, (200, json!({}))]);
    assert_eq!(busy.get(&tenant(), &id()).await, Ok(None));
    assert_eq!(requests.lock().unwrap().len(), 3);

    let (missing, _) = table(vec![(400, json!({"__type": "ResourceNotFoundException"}))]);
    let error = missing.get(&tenant(), &id()).await.unwrap_err().to_string();
    assert!(error.contains("ResourceNotFoundException (HTTP 400); check the policy"), "{error}");
    let (broken, _) = table(vec![(500, json!({}))]);
    assert!(matches!(broken.get(&tenant(), &id()).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_list_by_state_begins_where_the_cursor_says() {
    let key = json!({"Tenant": {"S": "tenant1"}, "JobId": {"S": ID}, "TenantState": {"S": "tenant1#FAILED"},
        "DispatchedAt": {"S": "2026-11-24T22:51:14.123Z"}});
    let (table, requests) = table(vec![(200, json!({"Items": [], "LastEvaluatedKey": key}))]);
    let filter = Filter { state: Some(State::Failed), ..Filter::default() };
    let page = table.list(&tenant(), &filter, 50, None).await.unwrap();
    table.list(&tenant(), &filter, 50, page.next.as_ref()).await.unwrap();

    let requests = requests.lock().unwrap();
    assert_eq!(requests[0].1["IndexName"], "ByState");
    assert_eq!(requests[0].1.get("ExclusiveStartKey"), None);
    assert_eq!(requests[1].1["ExclusiveStartKey"], key);
}

#[tokio::test]
async fn all_pages_of_an_executions_open_jobs_are_read() {
    let item = json!({"Tenant": {"S": "tenant1"}, "JobId": {"S": ID}, "Deadline": {"S": "1970-01-01T00:00:01.000Z"}});
    let (table, requests) = table(vec![
        (200, json!({"Items": [item], "LastEvaluatedKey": item})),
        (200, json!({"Items": [item]})),
    ]);
    let jobs = table.open_jobs("arn:the-execution").await.unwrap();

    assert_eq!((jobs.len(), jobs[0].deadline), (2, Some(Timestamp::from_second(1).unwrap())));
    assert_eq!(requests.lock().unwrap()[1].1["ExclusiveStartKey"], item);
}

/// The answer that adds an attempt to a number of others, and their ids.
fn attempts_item(number: usize) -> (Value, Vec<Value>) {
    let ids: Vec<_> = (0..number).map(|number| json!({"S": format!("{number:032x}")})).collect();
    (json!({"Attributes": {"Attempts": {"L": ids}}}), ids)
}

#[tokio::test]
async fn the_last_attempts_of_an_idempotency_key_are_remembered() {
    let (answer, ids) = attempts_item(21);
    let (table, requests) = table(vec![(200, answer)]);
    let mut job = NewJob::new(tenant(), id(), Timestamp::UNIX_EPOCH);
    job.idempotency_key = Some("the-key".into());
    table.dispatched(&job).await.unwrap();

    let requests = requests.lock().unwrap();
    let of_key =
        requests.iter().map(|(_, body)| body).filter(|body| body["Key"]["JobId"]["S"] == "key#the-key");
    let of_key: Vec<_> = of_key.map(|body| &body["ExpressionAttributeValues"]).collect();
    let [values, forgotten] = of_key[..] else { panic!("{of_key:?}") };
    assert_eq!((&values[":Attempts"]["L"][0]["S"], &values[":JobId"]["S"]), (&json!(ID), &json!(ID)));
    assert_eq!(forgotten[":Before"]["L"], json!(ids));
    assert_eq!(forgotten[":Attempts"]["L"], json!(ids[1..]));
    assert_eq!(requests.len(), 3);

    // The attempts are remembered as long as the item of a job that does not end.
    let expiries =
        requests.iter().filter_map(|(_, body)| body["ExpressionAttributeValues"].get(":ExpiresAt"));
    let expiries: Vec<_> = expiries.collect();
    assert_eq!(expiries, [&json!({"N": (395 * 86_400).to_string()}); 2]);
}

#[tokio::test]
async fn a_job_whose_key_is_its_own_id_has_no_other_attempts() {
    let (table, requests) = table(vec![(200, json!({}))]);
    let mut job = NewJob::new(tenant(), id(), Timestamp::UNIX_EPOCH);
    job.idempotency_key = Some(ID.into());
    table.dispatched(&job).await.unwrap();

    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn attempts_are_read_in_two_calls_and_come_in_the_order_of_time() {
    let job = |id: &str, at: &str| json!({"Tenant": {"S": "tenant1"}, "JobId": {"S": id}, "State": {"S": "FAILED"}, "DispatchedAt": {"S": at}});
    let ids = json!([{"S": ID}, {"S": "f".repeat(32)}]);
    let later = job(ID, "2026-11-24T22:00:02.000Z");
    let earlier = job(&"f".repeat(32), "2026-11-24T22:00:01.000Z");
    let (table, requests) = table(vec![
        (200, json!({"Item": {"Attempts": {"L": ids}}})),
        (200, json!({"Responses": {"jobs": [later, earlier]}, "UnprocessedKeys": {}})),
    ]);

    let attempts = table.attempts(&tenant(), "the-key").await.unwrap();
    assert_eq!(attempts.iter().map(|job| &*job.job_id).collect::<Vec<_>>(), [&*"f".repeat(32), ID]);
    let requests = requests.lock().unwrap();
    assert_eq!((requests.len(), &*requests[1].0), (2, "DynamoDB_20120810.BatchGetItem"));
    let request = &requests[1].1["RequestItems"]["jobs"];
    let projection = request["ProjectionExpression"].as_str().unwrap();
    assert!(!projection.contains("#Log") && !projection.contains("#Data"), "{projection}");
    for name in projection.split(", ") {
        assert_eq!(request["ExpressionAttributeNames"][name], name[1..]);
    }
}

#[tokio::test]
async fn attempts_that_dynamodb_leaves_out_are_an_error_and_no_gap() {
    let (table, _) = table(vec![
        (200, json!({"Item": {"Attempts": {"L": [{"S": ID}]}}})),
        (200, json!({"Responses": {}, "UnprocessedKeys": {"jobs": {"Keys": []}}})),
    ]);
    assert!(matches!(table.attempts(&tenant(), "the-key").await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn the_next_attempt_begins_with_the_progress_of_the_latest_that_has_one() {
    let job = |number: u8, data: Option<&str>| {
        let mut job = json!({"Tenant": {"S": "tenant1"}, "JobId": {"S": format!("{number:032x}")}, "State": {"S": "FAILED"},
            "DispatchedAt": {"S": format!("2026-11-24T22:00:0{number}.000Z")}});
        if let Some(data) = data {
            job["Data"] = json!({"S": data});
        }
        job
    };
    let jobs = [job(2, Some("[2]")), job(3, None), job(1, Some("[1]"))];
    let (table, requests) = table(vec![
        (200, json!({"Item": {"Attempts": {"L": [{"S": "1"}, {"S": "2"}, {"S": "3"}]}}})),
        (200, json!({"Responses": {"jobs": jobs}, "UnprocessedKeys": {}})),
    ]);

    assert_eq!(table.resume(&tenant(), "the-key").await.unwrap().as_deref(), Some("[2]"));
    let requests = requests.lock().unwrap();
    let request = &requests[1].1["RequestItems"]["jobs"];
    assert_eq!((requests.len(), &request["ConsistentRead"]), (2, &json!(true)));
    assert_eq!(request["ProjectionExpression"], "#Data, #DispatchedAt, #JobId, #State, #Tenant");
}

#[tokio::test]
async fn the_first_attempt_makes_one_call_to_know_that_there_is_none_before_it() {
    let (table, requests) = table(vec![(200, json!({}))]);
    assert_eq!(table.resume(&tenant(), "the-key").await, Ok(None));
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_progress_makes_one_call_whether_it_is_written_or_refused() {
    let refused = (400, json!({"__type": "x#ConditionalCheckFailedException"}));
    for (answer, is_written) in [((200, job_item(&[])), true), (refused, false)] {
        let (jobs, requests) = table(vec![answer]);
        for _ in 0..10 {
            let job = jobs.progress(&tenant(), None, &progress(&["a line"])).await.unwrap();
            assert_eq!(job.is_some(), is_written);
        }
        assert_eq!(requests.lock().unwrap().len(), 10);
    }
}
