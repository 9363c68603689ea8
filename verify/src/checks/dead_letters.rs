//! Messages that cannot be handled: they reach the dead-letter queue with their reason, and with the fields of the rule.
//!
//! Production may use the queue at the same time. Messages of others become visible again after a few seconds.

use std::time::Duration;

use aws_sdk_iotdataplane::primitives::Blob;
use aws_sdk_sqs::types::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::checks::{Checked, expect, passed};
use crate::error::Error;
use crate::report::Verdict;
use crate::site::Site;

/// How long a message of others is hidden from their own consumers.
const HIDDEN_SECONDS: i32 = 5;
/// How long to wait for a message that probably does not come, after the one that does.
const GRACE: Duration = Duration::from_secs(10);

/// The dead letters of this run.
pub(crate) struct DeadLetters {
    /// The record of the message without a task token.
    record: Option<Value>,
    /// Whether the message that is no JSON came as well.
    no_json: bool,
}

/// The tenant that the message names itself.
fn forged(site: &Site) -> String {
    format!("{}-forged", site.run)
}

/// Publishes both messages: one without a task token, which names another tenant, and one that is no JSON.
pub(crate) async fn publish(site: &Site) -> Result<(), Error> {
    let client = aws_sdk_iotdataplane::Client::new(&site.config);
    let topic = format!("{}/to/lambda", site.tenant);
    let message = json!({"verify": site.run, "tenant": forged(site)}).to_string();

    for payload in [message, format!("{} is no JSON", site.run)] {
        client.publish().topic(&topic).qos(1).payload(Blob::new(payload)).send().await?;
    }
    Ok(())
}

impl DeadLetters {
    /// Waits for the messages and takes them off the queue.
    pub(crate) async fn collect(site: &Site) -> Result<Self, Error> {
        let client = aws_sdk_sqs::Client::new(&site.config);
        let queue = site.outputs.get("DeadLetterQueueUrl");
        let mut found = Self { record: None, no_json: false };

        let mut end = Instant::now() + Duration::from_secs(site.options.dead_letter_seconds);
        while Instant::now() < end && !(found.record.is_some() && found.no_json) {
            let receive = client.receive_message().queue_url(queue).max_number_of_messages(10);
            // Shorter than the SDK's limit for a call.
            let receive = receive.wait_time_seconds(2).visibility_timeout(HIDDEN_SECONDS);
            let received = receive.send().await?.messages.unwrap_or_default();

            for message in received.iter().filter(|message| is_ours(site, message)) {
                if found.take(message) {
                    end = end.min(Instant::now() + GRACE);
                }
                let receipt = message.receipt_handle().unwrap_or_default();
                client.delete_message().queue_url(queue).receipt_handle(receipt).send().await?;
            }
        }
        Ok(found)
    }

    /// Keeps a message; whether it is the record of the message without a task token.
    fn take(&mut self, message: &Message) -> bool {
        let body: Value = serde_json::from_str(message.body().unwrap_or_default()).unwrap_or_default();
        let is_record = body["requestPayload"]["verify"].is_string();
        if is_record {
            self.record = Some(body);
        } else {
            self.no_json = true;
        }
        is_record
    }

    /// The message without a task token is a dead letter that names its reason.
    pub(crate) fn reason(&self) -> Checked {
        let record = self.record()?;
        let name = record["responsePayload"]["errorType"].as_str().unwrap_or_default();
        expect(name == "TaskTokenDone.InvalidMessage", || {
            format!("the reason should be TaskTokenDone.InvalidMessage, and is {name:?}")
        })?;
        let condition = record["requestContext"]["condition"].as_str().unwrap_or_default();
        Ok(passed(format!("the dead letter names its reason, {name}, and its condition, {condition}")))
    }

    /// Which `tenant` the function sees: the rule's, or the one that the worker wrote into its message.
    pub(crate) fn rule_wins(&self, site: &Site) -> Checked {
        let tenant = self.record()?["requestPayload"]["tenant"].as_str().unwrap_or_default();
        let forged = forged(site);

        if !site.is_aws() {
            let wins = if tenant == forged { "the message's value" } else { "the rule's value" };
            return Ok(Verdict::UnknownHere(format!(
                "AWS does not document it; on the local stack {wins} wins"
            )));
        }
        expect(tenant == site.tenant, || {
            format!("a worker can forge its tenant: the function sees {tenant:?}, not {:?}", site.tenant)
        })?;
        Ok(passed("in SELECT *, topic(1) AS tenant the rule's value wins over the message's"))
    }

    /// What becomes of a message that the rule's SQL cannot read.
    pub(crate) fn no_json(&self, site: &Site) -> Verdict {
        let found = if self.no_json {
            "a message that is no JSON reaches the dead-letter queue"
        } else {
            "a message that is no JSON reaches no queue"
        };
        if site.is_aws() {
            Verdict::Observed(found.into())
        } else {
            Verdict::UnknownHere(format!("AWS decides; on the local stack {found}"))
        }
    }

    fn record(&self) -> Result<&Value, Error> {
        self.record.as_ref().ok_or_else(|| {
            Error::unexpected("the message without a task token did not reach the dead-letter queue")
        })
    }
}

/// The name of the run is unique, so a body that contains it belongs to the run. The rule's error action encodes what
/// it could not read.
fn is_ours(site: &Site, message: &Message) -> bool {
    message.body().unwrap_or_default().contains(&site.run)
}
