//! Large messages, many messages, and many clients at once.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{Barrier, Semaphore};
use tokio_tungstenite::tungstenite::Message;

use crate::client::within_timeout;
use crate::echo::function::Stack;

#[tokio::test]
async fn large_messages_come_back_whole() {
    let stack = Stack::alone().await;
    for size in [16_384, 16_385, 65_536, 200_000] {
        // Each message has a connection of its own: Pushpin 1.36 cuts a connection after a request of more than 200,000
        // bytes, even if the request was answered.
        let mut client = stack.connect().await;
        let text: String = ('a'..='z').cycle().take(size).collect();
        client.send(&*text).await;
        assert!(client.next().await == Message::text(text), "{size} characters");

        let mut client = stack.connect().await;
        let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
        client.send(bytes.clone()).await;
        assert!(client.next().await == Message::binary(bytes), "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_in_a_burst_come_back_in_order() {
    let stack = Stack::alone().await;
    let (mut sink, mut stream) = stack.connect().await.0.split();
    let text = |n: u32| format!("{n:0100}");
    let sender = tokio::spawn(async move {
        for n in 0..10_000 {
            sink.feed(Message::text(text(n))).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });

    for n in 0..10_000 {
        assert_eq!(within_timeout(stream.next()).await.unwrap().unwrap(), Message::text(text(n)));
    }
    drop(within_timeout(sender).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_served_at_once() {
    const CLIENTS: usize = 1_000;
    let stack = Arc::new(Stack::alone().await);
    let all_in = Arc::new(Barrier::new(CLIENTS));
    // Limits the requests at a time: of a thousand in the same millisecond, Pushpin 1.36 drops some unsent.
    let door = Arc::new(Semaphore::new(50));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (stack, all_in, door) = (stack.clone(), all_in.clone(), door.clone());
            tokio::spawn(async move {
                let turn = door.acquire().await.unwrap();
                let mut client = stack.connect().await;
                drop(turn);

                // All clients are connected before the first one sends, and all have their answers before the first leaves.
                within_timeout(all_in.wait()).await;
                let turn = door.acquire().await.unwrap();
                client.send(&*n.to_string()).await;
                assert_eq!(client.next().await, Message::text(n.to_string()));
                drop(turn);

                within_timeout(all_in.wait()).await;
                within_timeout(client.0.close(None)).await.unwrap();
            })
        })
        .collect();

    for client in clients {
        client.await.unwrap();
    }
}
