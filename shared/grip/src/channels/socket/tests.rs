use std::sync::{Arc, Mutex, Weak};

use super::*;
use crate::channels::access::{Anybody, Identity};
use crate::channels::memory::MemoryStore;
use crate::channels::store::History as _;
use crate::event::{CONTENT_TYPE, Event, Events};

type Tested = Channels<MemoryStore, Racing, Anybody>;

/// A proxy that receives a marker just after somebody else has published: the subscription was not active for that item.
/// It notes whether each item was in the history when it arrived.
struct Racing {
    channels: Weak<Tested>,
    was_in_history: Mutex<Vec<bool>>,
}

impl Proxy for Racing {
    async fn publish(&self, items: &[Item]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channels = self.channels.upgrade().expect("the channels exist");
        for item in items.iter().map(|item| item.json("")) {
            if let Some(id) = item["id"].as_str() {
                let newest = channels.store.position("room").await?;
                self.was_in_history.lock().unwrap().push(newest.to_string() == id);
            } else {
                channels.store.append("room", r#""just before""#).await?;
            }
        }
        Ok(())
    }
}

fn channels() -> Arc<Tested> {
    Arc::new_cyclic(|channels| {
        let proxy = Racing { channels: Weak::clone(channels), was_in_history: Mutex::default() };
        Channels::new(MemoryStore::new(), proxy, Anybody)
    })
}

/// The texts with which the function answers a client's text.
async fn answers<P: Proxy>(channels: &Channels<MemoryStore, P, Anybody>, text: &str) -> Vec<String> {
    let mut body = Vec::new();
    Event::Text(text.as_bytes()).encode(&mut body);
    let request = Request::post("/").header("content-type", CONTENT_TYPE).header("connection-id", "c1");
    let response = channels.serve("/", &request.body(body).unwrap()).await;

    let events = Events::decode(response.body()).unwrap().filter_map(|event| match event {
        Event::Text(text) => text.strip_prefix(b"m:").map(|text| String::from_utf8_lossy(text).into_owned()),
        _ => None,
    });
    events.collect()
}

#[tokio::test]
async fn what_is_published_until_the_marker_is_in_the_reply() {
    let channels = channels();
    let answers = answers(&channels, r#"{"type":"confirm","n":1,"channels":{"room":"0"}}"#).await;

    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(
        answers[0].contains("just before"),
        "the history was read before the marker was published: {answers:?}"
    );
    assert_eq!(answers[1], r#"{"n":1,"type":"confirmed"}"#);
}

#[tokio::test]
async fn an_item_is_in_the_history_when_the_proxy_receives_it() {
    let channels = channels();
    for n in 0..3 {
        channels.publish("room", &n.to_string()).await.unwrap();
    }
    assert_eq!(*channels.proxy.was_in_history.lock().unwrap(), [true; 3]);
}

#[tokio::test]
async fn a_replay_has_every_item_after_the_position_in_order() {
    let channels = channels();
    let first = channels.publish("room", "0").await.unwrap();
    for n in 1..5 {
        channels.publish("room", &n.to_string()).await.unwrap();
    }

    let text = format!(r#"{{"type":"subscribe","n":1,"channels":{{"room":"{first}"}}}}"#);
    let data: Vec<_> = answers(&channels, &text).await.iter().filter_map(|text| data(text)).collect();
    assert_eq!(data, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_subscription_without_a_position_begins_before_the_newest_items() {
    let channels = channels();
    let mut at = Vec::new();
    for n in 0..5 {
        at.push(channels.publish("room", &n.to_string()).await.unwrap());
    }

    for recent in [0, 2, 4] {
        let text = format!(r#"{{"type":"subscribe","n":1,"channels":{{"room":null}},"recent":{recent}}}"#);
        let answers = answers(&channels, &text).await;
        assert_eq!(answers[0], wire::subscribed("room", at[4 - recent]));
        let data: Vec<_> = answers.iter().filter_map(|text| data(text)).collect();
        assert_eq!(data, (5 - recent as u64..5).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_loss_is_told_with_the_position_before_what_is_left() {
    let channels = Channels::new(MemoryStore::new().keep(2), Silent, Anybody);
    let mut at = Vec::new();
    for n in 0..5 {
        at.push(channels.publish("room", &n.to_string()).await.unwrap());
    }

    for kind in ["subscribe", "confirm"] {
        let text = format!(r#"{{"type":"{kind}","n":1,"channels":{{"room":"{}"}}}}"#, at[0]);
        let answers = answers(&channels, &text).await;
        assert_eq!(answers[0], wire::lost("room", at[0], at[2]).to_string());
        assert_eq!(answers.iter().filter_map(|text| data(text)).collect::<Vec<_>>(), [3, 4]);
    }
}

/// The data of an item, which is a number.
fn data(text: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(text).ok()?["data"].as_u64()
}

#[tokio::test]
async fn an_item_is_stamped_for_a_client_and_refused_without_a_stamp() {
    let signed = |_: &Identity, content: &str| (content == "1").then(|| "2".to_owned());
    let channels = Channels::new(MemoryStore::new(), Silent, Anybody).stamp(signed);
    let publish = |data: u32| format!(r#"{{"type":"publish","channel":"room","data":{data},"ref":7}}"#);
    let post = |body: &str| Request::post("/room").body(body.as_bytes().to_vec()).unwrap();

    let mut body = Vec::new();
    Event::Text(publish(1).as_bytes()).encode(&mut body);
    Event::Text(publish(3).as_bytes()).encode(&mut body);
    let request = Request::post("/").header("content-type", CONTENT_TYPE).header("connection-id", "c1");
    let response = channels.serve("/", &request.body(body).unwrap()).await;
    let answer = String::from_utf8_lossy(response.body()).into_owned();
    assert!(answer.contains(r#""type":"published""#) && answer.contains(r#""code":"refused""#), "{answer}");
    assert_eq!(channels.serve("/room", &post("1")).await.status(), 200);
    assert_eq!(channels.serve("/room", &post("3")).await.status(), 400);

    // The application's own items are as it publishes them.
    channels.publish("room", "3").await.unwrap();
    let items = channels.store.recent("room", 10).await.unwrap();
    let contents: Vec<_> = items.iter().map(|item| item.content.as_str()).collect();
    assert_eq!(contents, ["2", "2", "3"]);
}

/// A proxy without clients.
struct Silent;

impl Proxy for Silent {
    async fn publish(&self, _items: &[Item]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

#[test]
fn keep_alives_are_spread_over_a_fifth_of_their_interval() {
    let all: Vec<u32> = (0..1_000).map(|n| spread(600, &format!("connection {n}"))).collect();
    assert!(all.iter().all(|seconds| (540..660).contains(seconds)));
    let late = all.iter().filter(|seconds| **seconds >= 600).count();
    assert!((400..600).contains(&late), "{late} of 1,000 are in the second half");
}
