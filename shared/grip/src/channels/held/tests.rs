use super::*;
use crate::channels::access::Anybody;
use crate::channels::memory::MemoryStore;
use crate::publish::Item;

type Tested = Channels<MemoryStore, Silent, Anybody>;

/// A proxy without clients.
struct Silent;

impl Proxy for Silent {
    async fn publish(&self, _items: &[Item]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

/// Channels with the items 1 to 5 in `room`, of which the store keeps this many, and the positions after 0 to 5 items.
async fn channels(kept: usize) -> (Tested, Vec<Position>) {
    let channels = Channels::new(MemoryStore::new().keep(kept), Silent, Anybody).prefixed("app-");
    let mut at = Vec::new();
    for n in 1..=5 {
        at.push(channels.publish("room", &n.to_string()).await.unwrap());
    }
    at.insert(0, at[0].previous());
    (channels, at)
}

/// A request with headers, and its response.
async fn get(channels: &Tested, path: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
    let request =
        headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    channels.serve(path.split('?').next().unwrap(), &request.body(Vec::new()).unwrap()).await
}

/// The instruction to listen to `room`, without its prefix and name.
fn listened(response: &Response<Vec<u8>>) -> &str {
    response.headers()["grip-channel"].to_str().unwrap().strip_prefix("app-room").unwrap()
}

fn json(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The data of items.
fn data(items: &Value) -> Vec<u64> {
    items.as_array().unwrap().iter().map(|item| item["data"].as_u64().unwrap()).collect()
}

/// The events of a stream: the id, the name, and the data.
fn events(response: &Response<Vec<u8>>) -> Vec<(String, String, Value)> {
    let text = String::from_utf8_lossy(response.body());
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let parse = |event: &str| {
        let data = serde_json::from_str(&field(event, "data: ")).unwrap();
        (field(event, "id: "), field(event, "event: "), data)
    };
    text.split_terminator("\n\n").map(parse).collect()
}

#[tokio::test]
async fn a_poll_gets_every_item_after_its_position() {
    let (channels, at) = channels(9).await;
    for n in 0..5 {
        let body = json(&get(&channels, &format!("/room/poll?after={}", at[n]), &[]).await);
        assert_eq!(data(&body["items"]), (n as u64 + 1..=5).collect::<Vec<_>>());
        assert_eq!((&body["id"], &body["lost"]), (&json!(at[5].to_string()), &Value::Null));
    }
}

#[tokio::test]
async fn a_poll_without_news_is_held_at_its_position_until_the_proxy_has_repeated_it() {
    let (channels, at) = channels(9).await;
    let path = format!("/room/poll?after={}", at[5]);
    let prev = format!("; prev-id={}", at[5]);

    let last = |n: usize| format!("app-room; last-id={}", at[n]);
    for (grip_last, expected) in [(None, &*prev), (Some(last(4)), &prev), (Some(last(5)), "")] {
        let headers: Vec<_> = grip_last.iter().map(|last| ("grip-last", last.as_str())).collect();
        let response = get(&channels, &path, &headers).await;
        assert_eq!(response.headers()["grip-hold"], "response");
        assert_eq!(listened(&response), expected, "{grip_last:?}");
    }
}

#[tokio::test]
async fn a_poll_without_a_position_begins_at_the_newest_item() {
    let (channels, at) = channels(9).await;
    for (recent, expected) in [(0, &[][..]), (2, &[4, 5]), (9, &[1, 2, 3, 4, 5])] {
        let body = json(&get(&channels, &format!("/room/poll?recent={recent}"), &[]).await);
        assert_eq!((data(&body["items"]), &body["id"]), (expected.to_vec(), &json!(at[5].to_string())));
    }
}

#[tokio::test]
async fn a_poll_and_a_stream_learn_of_a_loss_and_get_what_is_left() {
    let (channels, at) = channels(2).await;
    let lost = wire::lost("room", at[1], at[3]);

    let body = json(&get(&channels, &format!("/room/poll?after={}", at[1]), &[]).await);
    assert_eq!((&body["lost"], data(&body["items"])), (&lost, vec![4, 5]));

    let response = get(&channels, &format!("/room/stream?after={}", at[1]), &[]).await;
    let events = events(&response);
    assert_eq!(events[0], (at[3].to_string(), "lost".to_owned(), lost));
    assert_eq!(events[1..].iter().map(|event| &event.2["data"]).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(listened(&response), format!("; prev-id={}", at[5]));
}

#[tokio::test]
async fn a_stream_continues_after_what_the_proxy_or_the_browser_has_received() {
    let (channels, at) = channels(9).await;
    let (first, third) = (at[1].to_string(), format!("app-room; last-id={}", at[3]));
    let browser = ("last-event-id", first.as_str());

    // The proxy knows better than the browser, whose header is repeated with each of the proxy's requests.
    for (headers, after) in [(&[browser][..], 1), (&[browser, ("grip-last", &third)], 3)] {
        let response = get(&channels, "/room/stream", headers).await;
        let got: Vec<_> =
            events(&response).into_iter().map(|(id, _, item)| (id, item["data"].as_u64().unwrap())).collect();
        let expected: Vec<_> = (after + 1..=5).map(|n| (at[n].to_string(), n as u64)).collect();
        assert_eq!(got, expected);
        assert_eq!(listened(&response), format!("; prev-id={}", at[5]));
    }
}

#[tokio::test]
async fn a_stream_without_a_position_begins_at_the_newest_item() {
    let (channels, at) = channels(9).await;
    let response = get(&channels, "/room/stream", &[]).await;
    assert_eq!(events(&response), [(at[5].to_string(), "subscribed".to_owned(), json!({}))]);
    assert_eq!(listened(&response), format!("; prev-id={}", at[5]));
}

#[test]
fn the_last_item_is_read_for_the_channel_it_belongs_to() {
    let mut headers = HeaderMap::new();
    headers.append("grip-last", HeaderValue::from_static("a; last-id=x, app-b; last-id=00000000000000ff-3"));
    headers.append("grip-last", HeaderValue::from_static("c; last-id=\"0\""));

    assert_eq!(grip_last(&headers, "app-b"), Some(Position::new(255, 3)));
    assert_eq!(grip_last(&headers, "c"), Some(Position::START));
    assert_eq!(grip_last(&headers, "a"), None);
    assert_eq!(grip_last(&headers, "b"), None);
}
