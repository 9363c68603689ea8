//! The link without the engine: stale acknowledgements, brokers that stop reading or acknowledging, the order and pace
//! of published messages, and refusals.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser as _;
use postern_types::Topic;
use postern_worker::Mqtt;
use postern_worker::config::{CommandLine, Config};
use postern_worker::link::{Guarantee, Inbox, Incoming, Link, Priority, PublishError};
use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::scripted_broker::{QUIET, ScriptedBroker, within};
use crate::site::{Site, logged};

type Receiver = mpsc::Receiver<Incoming<<Mqtt as Link>::Receipt>>;

/// The configuration of a worker of this site.
fn config(site: &Site) -> Config {
    let arguments = [vec!["worker".to_owned()], site.arguments("worker-1", "ca")].concat();
    Config::load(&CommandLine::try_parse_from(arguments).unwrap()).unwrap()
}

/// The configuration with a keep-alive of two seconds, which is short enough to wait for. The command line does not
/// allow it, because AWS IoT Core requires at least 30 seconds.
fn config_with_short_keep_alive(site: &Site) -> Config {
    Config { keep_alive_seconds: 2, ..config(site) }
}

/// Waits for the next message and returns its receipt.
async fn receipt(incoming: &mut Receiver) -> <Mqtt as Link>::Receipt {
    match within(incoming.recv()).await {
        Some(Incoming::Message { receipt, .. }) => receipt,
        other => panic!("not a message: {other:?}"),
    }
}

/// Publishes a message in a task of its own, which returns the result.
fn publish(
    link: &Mqtt,
    message: serde_json::Value,
    priority: Priority,
) -> tokio::task::JoinHandle<Result<(), PublishError>> {
    let link = link.clone();
    let topic = Topic::parse("tenant1/to/lambda").unwrap();
    tokio::spawn(async move {
        link.publish(&topic, Bytes::from(message.to_string()), priority, Guarantee::AtLeastOnce).await
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_a_lost_connection_are_ignored() {
    let site = Site::new("stale");
    let broker = ScriptedBroker::start(&site).await;
    let (link, Inbox { jobs: mut incoming, .. }) = Mqtt::connect(&config(&site)).unwrap();
    let mut first = broker.accept_subscribed().await;
    let mut stale = Vec::new();
    for packet_id in 1..51 {
        first.publish(packet_id, &format!("{packet_id}")).await;
        stale.push(receipt(&mut incoming).await);
    }
    drop(first);

    let mut second = broker.accept(true).await;
    second.publish(1, "1").await;
    let current = receipt(&mut incoming).await;
    for receipt in stale {
        link.acknowledge(receipt);
    }
    assert!(tokio::time::timeout(QUIET, second.packet()).await.is_err(), "a stale acknowledgement went out");

    link.acknowledge(current);
    second.serve_until(|log| log.acknowledged == [1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_redelivered_before_its_acknowledgement_is_passed_on_once() {
    let site = Site::new("once");
    let broker = ScriptedBroker::start(&site).await;
    let (link, Inbox { jobs: mut incoming, .. }) = Mqtt::connect(&config(&site)).unwrap();
    let mut connection = broker.accept_subscribed().await;
    for _ in 0..1_000 {
        connection.publish(1, "the same").await;
    }
    connection.publish(2, "another").await;

    let first = receipt(&mut incoming).await;
    let second = receipt(&mut incoming).await;
    link.acknowledge(second);
    link.acknowledge(first);
    connection.serve_until(|log| log.acknowledged == [2, 1]).await;
    assert!(incoming.try_recv().is_err(), "the redelivered message was passed on twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_leaves_a_broker_that_stops_reading_and_close_returns_in_time() {
    let site = Site::new("unread");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config_with_short_keep_alive(&site)).unwrap();
    let unread = broker.accept_subscribed().await;
    let message = json!("x".repeat(120_000));
    let messages: Vec<_> = (0..100).map(|_| publish(&link, message.clone(), Priority::Answer)).collect();

    // The first connection stays open and the broker does not read it. The link opens another by itself.
    let mut second = broker.accept(true).await;
    second.serve_until(|log| !log.published.is_empty()).await;
    drop(unread);

    let start = Instant::now();
    within(link.close()).await;
    assert!(start.elapsed() < Duration::from_secs(10), "close took {:?}", start.elapsed());
    drop(messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_acknowledgement_is_sent_again_on_a_new_connection() {
    let site = Site::new("silent");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config_with_short_keep_alive(&site)).unwrap();
    let mut first = broker.accept_subscribed().await;
    first.withhold_pubacks = true;
    let sent = publish(&link, json!({"n": 1}), Priority::Answer);

    first.serve_until_closed().await;
    assert_eq!(first.log.published[0].1, json!({"n": 1}));
    let mut second = broker.accept(true).await;
    second.serve_until(|log| log.published.len() == 1).await;
    assert_eq!(within(sent).await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_sent_before_accepted_messages_and_accepted_messages_before_heartbeats() {
    let site = Site::new("order");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config(&site)).unwrap();
    let mut messages = Vec::new();
    for (name, priority) in
        [("heartbeat", Priority::Heartbeat), ("accepted", Priority::Accepted), ("answer", Priority::Answer)]
    {
        for _ in 0..20 {
            messages.push(publish(&link, json!(name), priority));
        }
        tokio::time::sleep(QUIET).await;
    }

    let mut connection = broker.accept(false).await;
    connection.serve_until(|log| log.published.len() == 60).await;

    let order: Vec<_> = connection.log.published.iter().map(|(_, name)| name.as_str().unwrap()).collect();
    let expected = [["answer"; 20], ["accepted"; 20], ["heartbeat"; 20]].concat();
    assert_eq!(order, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_is_cancelled_before_it_is_sent_is_dropped() {
    let site = Site::new("withdrawn");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config(&site)).unwrap();
    let withdrawn = publish(&link, json!("withdrawn"), Priority::Heartbeat);
    tokio::time::sleep(QUIET).await;
    withdrawn.abort();
    let _ = withdrawn.await;
    let _kept = publish(&link, json!("kept"), Priority::Heartbeat);

    let mut connection = broker.accept(false).await;
    connection.serve_until(|log| !log.published.is_empty()).await;
    assert_eq!(connection.log.published[0].1, json!("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_are_paced_below_the_brokers_limit() {
    let site = Site::new("pace");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config(&site)).unwrap();
    let mut connection = broker.accept_subscribed().await;
    let messages: Vec<_> = (0..300).map(|n| publish(&link, json!(n), Priority::Answer)).collect();

    connection.serve_until(|log| log.published.len() == 300).await;

    // A busy machine makes this longer, never shorter.
    let took = connection.log.published[299].0 - connection.log.published[0].0;
    assert!(
        took > Duration::from_secs(2),
        "300 messages took {took:?}, but AWS IoT Core accepts 100 a second"
    );
    drop(messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_and_a_message_above_the_brokers_limit_fail_with_their_reason() {
    let site = Site::new("refused");
    let broker = ScriptedBroker::start(&site).await;
    let (link, _incoming) = Mqtt::connect(&config(&site)).unwrap();
    let mut connection = broker.accept_subscribed().await;

    let sent = publish(&link, json!(1), Priority::Answer);
    let Some(Packet::Publish(message)) = connection.packet().await else { panic!("no message") };
    connection.puback(message.pkid, PubAckReason::NotAuthorized).await;
    let error = within(sent).await.unwrap().unwrap_err();
    assert!(matches!(&error, PublishError::Refused(reason) if reason.contains("NotAuthorized")), "{error}");

    let sent = publish(&link, json!("x".repeat(132_000)), Priority::Answer);
    let error = within(sent).await.unwrap().unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { bytes: 132_002, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_reported() {
    let site = Site::new("unsubscribed");
    let broker = ScriptedBroker::start(&site).await;
    let (_link, Inbox { jobs: mut incoming, .. }) = Mqtt::connect(&config(&site)).unwrap();
    let mut connection = broker.accept(false).await;
    let Some(Packet::Subscribe(subscribe)) = connection.packet().await else { panic!("no SUBSCRIBE") };
    connection.suback(subscribe.pkid, SubscribeReasonCode::NotAuthorized).await;

    let report = within(incoming.recv()).await;
    assert!(
        matches!(&report, Some(Incoming::SubscriptionRefused(reason)) if reason.contains("iot:Subscribe")),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_explained_and_retried() {
    let site = Site::new("unwelcome");
    let mut broker = ScriptedBroker::start(&site).await;
    broker.connack.code = ConnectReturnCode::NotAuthorized;
    let worker = site.worker("worker.log", &[]);
    drop(broker.accept(false).await);
    logged(&worker, "must allow iot:Connect").await;

    broker.connack.code = ConnectReturnCode::Success;
    broker.accept_subscribed().await.still_works().await;
}
