//! What a worker cannot do to the results of others: of another tenant, of another client, of another job. And what
//! becomes of an object whose job has ended without it.

use postern_types::{JobId, TaskToken};
use serde_json::{Value, json};

use super::device::{Device, S3Request};
use super::{content, deployment, output_of, sha256};
use crate::stack::{Stack, TIMEOUT};

const ANSWERS: &str = "tenant1/to/lambda";

/// The worker of tenant1, with a job that waits for its result.
struct Holder {
    device: Device,
    commands: String,
    execution: String,
    token: Value,
}

impl Holder {
    async fn new(stack: &Stack) -> Self {
        let thing = stack.outputs.get("WorkerThingName");
        let mut device = Device::connect(stack, &stack.files, thing);
        let commands = format!("tenant1/to/worker/{thing}");
        for topic in ["tenant1/to/worker", &commands] {
            assert!(device.subscribes(topic).await, "{topic}");
        }

        let execution = stack.execute("{}").await;
        let token = device.next("tenant1/to/worker").await["TaskToken"].clone();
        Self { device, commands, execution, token }
    }

    fn job_id(&self) -> JobId {
        TaskToken::parse(self.token.as_str().unwrap()).unwrap().job_id()
    }

    /// The command that grants the upload of this content.
    async fn grant(&mut self, content: &[u8]) -> Value {
        self.device.ask(ANSWERS, &self.token, content, &json!({})).await;
        let command = self.device.next(&self.commands).await;
        assert_eq!(command["Command"], "UPLOAD", "{}", command["Cause"]);
        command
    }
}

/// The keys in the claim check's bucket.
async fn keys(stack: &Stack) -> Vec<String> {
    let bucket = stack.outputs.get("ClaimCheckBucketName");
    let listed = stack.s3().list_objects_v2().bucket(bucket).send().await.unwrap();
    listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_worker_gets_neither_a_place_nor_the_url_of_a_job_that_is_not_its_own() {
    let stack = Stack::with("claim-tenants", deployment("big")).await;
    let mut holder = Holder::new(&stack).await;
    let files = stack.emulator.enroll(&stack.outputs, Some(("spy", "tenant2"))).await.unwrap();
    let mut spy = Device::connect(&stack, &files, "spy");
    assert!(spy.subscribes("tenant2/to/worker/spy").await);

    let thing = stack.outputs.get("WorkerThingName");
    let own_tenant = format!("tenant2/to/worker/{thing}");
    let (shared, any) = (format!("$share/g/{}", holder.commands), format!("+/to/worker/{thing}"));
    for filter in [&*holder.commands, "tenant1/to/worker", "tenant1/#", "#", &*shared, &*any, &*own_tenant] {
        assert!(!spy.subscribes(filter).await, "{filter} is granted");
    }

    // A guessed token with the job's id and the names of others. Step Functions refuses the token.
    let forged = json!({"JobId": holder.job_id(), "tenant": "tenant1", "worker": thing});
    spy.ask("tenant2/to/lambda", &json!("guess"), b"evil", &forged).await;
    let dead_letter = stack.dead_letter().await;
    let asked = &dead_letter["requestPayload"];
    assert_eq!((&asked["tenant"], &asked["worker"]), (&json!("tenant2"), &json!("spy")));

    // The real token, if it ever leaked, leads to a place of the spy's own tenant.
    spy.ask("tenant2/to/lambda", &holder.token, b"evil", &forged).await;
    let granted = spy.next("tenant2/to/worker/spy").await;
    assert_eq!(granted["ResultRef"]["Key"], format!("tenant2/{}", holder.job_id()));

    let url = holder.grant(b"result").await["Url"].clone();
    assert!(url.as_str().unwrap().contains(&format!("/tenant1/{}", holder.job_id())));
    // The spy's next message answers the spy: the holder's grant did not come to it.
    spy.ask("tenant2/to/lambda", &holder.token, b"more", &json!({})).await;
    let granted = spy.next("tenant2/to/worker/spy").await;
    assert_eq!(granted["ResultRef"]["Key"], format!("tenant2/{}", holder.job_id()));

    let request =
        json!({"TaskToken": holder.token, "Status": "UPLOAD", "Bytes": 4, "Sha256": sha256(b"evil")});
    assert!(!spy.publishes(ANSWERS, &request).await, "the broker takes a message to another tenant's topic");
    assert!(keys(&stack).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_takes_the_content_that_was_announced_and_nothing_else() {
    let stack = Stack::with("claim-signed", deployment("big")).await;
    let mut holder = Holder::new(&stack).await;
    let content = b"what the job has made";
    let command = holder.grant(content).await;
    let granted = S3Request::granted(&command, content);

    let key = command["ResultRef"]["Key"].as_str().unwrap();
    let mut other_content = content.to_vec();
    other_content[0] ^= 1;
    let digest = ring::digest::digest(&ring::digest::SHA256, &other_content);
    let other_sum = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    let at = |key: &str, other: &str| S3Request { url: granted.url.replace(key, other), ..granted.clone() };
    let bare =
        |method| S3Request { method, body: Vec::new(), ..granted.clone() }.with("content-length", Some("0"));
    let longer = [&content[..], b"!"].concat();
    let attempts = [
        ("another content", S3Request { body: other_content.clone(), ..granted.clone() }),
        (
            "another content with its sum",
            S3Request { body: other_content, ..granted.clone() }
                .with("x-amz-checksum-sha256", Some(&other_sum)),
        ),
        ("no sum", granted.clone().with("x-amz-checksum-sha256", None)),
        ("another type", granted.clone().with("content-type", Some("text/html"))),
        (
            "another length",
            S3Request { body: longer.clone(), ..granted.clone() }
                .with("content-length", Some(&longer.len().to_string())),
        ),
        ("another key", at(key, "tenant1/0123456789abcdef0123456789abcdef")),
        ("another tenant's key", at(key, &key.replace("tenant1/", "tenant2/"))),
        ("an input's key", at(key, &key.replace("tenant1/", "tenant1/inputs/"))),
        ("another method", bare("GET")),
        ("a deletion", bare("DELETE")),
        ("a longer validity", at("X-Amz-Expires=3600", "X-Amz-Expires=36000")),
    ];
    for (what, attempt) in attempts {
        let status = attempt.status().await;
        assert!((400..500).contains(&status), "{what}: {status}");
        assert!(keys(&stack).await.is_empty(), "{what} left an object");
    }

    assert_eq!(granted.status().await, 200);
    assert_eq!(keys(&stack).await, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_no_answer_names_expires_and_a_newer_one_stays() {
    let mut stack = Stack::with("claim-lifecycle", deployment("big")).await;
    let mut holder = Holder::new(&stack).await;
    let command = holder.grant(b"orphan").await;
    assert_eq!(S3Request::granted(&command, b"orphan").status().await, 200);
    // The worker dies after the upload and before its answer, and the execution is stopped.
    stack.stop(&holder.execution).await;
    drop(holder);
    let orphan = command["ResultRef"]["Key"].as_str().unwrap();
    assert_eq!(keys(&stack).await, [orphan]);
    assert!(!move_clock(&stack, 6).contains(orphan), "six days are too early");
    assert_eq!(keys(&stack).await, [orphan]);

    stack.test_worker().await;
    let execution = stack.execute(r#"{"bytes": 10}"#).await;
    let output = output_of(stack.executions.end(&execution, TIMEOUT).await.unwrap());
    let expired = move_clock(&stack, 2);
    assert!(expired.contains(orphan), "{expired}");

    let live = &output["ResultRef"];
    assert_eq!(keys(&stack).await, [live["Key"].as_str().unwrap()]);
    assert_eq!(content(&stack, live).await.len(), 10);
}

/// Moves the clock of the emulator's S3 ahead and lets objects expire. Returns what the emulator says of it.
fn move_clock(stack: &Stack, days: u32) -> String {
    let url = format!("{}/_ministack/s3/lifecycle?days={days}", stack.emulator.endpoint());
    ureq::post(url).send_empty().unwrap().body_mut().read_to_string().unwrap()
}
