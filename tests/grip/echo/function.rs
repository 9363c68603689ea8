//! A stack whose backend is `grip-echo`.

use std::time::Duration;

use postern_pushpin::{Function, Ports, Route, post};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, within_timeout};
use crate::stack::{self, Turn, turn, turn_alone};

pub(crate) type Stack = stack::Stack<Function>;

/// The secret that Pushpin signs with and the function verifies with.
pub(crate) const SECRET: &str = "base64:AAEC/+8gc2VjcmV0";

/// The variables of a function that serves only requests signed with [`SECRET`].
pub(crate) const SIGNED: [(&str, &str); 2] = [("GRIP_VERIFY_KEY", SECRET), ("GRIP_VERIFY_ISS", "pushpin")];

/// The `Authorization` of a publisher.
pub(crate) const PUBLISHER: &str = "Bearer only-for-these-tests";

impl Stack {
    /// Starts a function that requires signatures, and a Pushpin that signs.
    pub(crate) async fn start() -> Self {
        Self::with(&SIGNED, "pushpin", SECRET).await
    }

    /// As [`start`](Self::start), while no other stack runs.
    pub(crate) async fn alone() -> Self {
        Self::in_turn(turn_alone().await, &SIGNED, "pushpin", SECRET).await
    }

    /// Starts a function with these variables, and a Pushpin that signs as `issuer` with `key`.
    pub(crate) async fn with(variables: &[(&str, &str)], issuer: &str, key: &str) -> Self {
        Self::in_turn(turn().await, variables, issuer, key).await
    }

    async fn in_turn(turn: Turn, variables: &[(&str, &str)], issuer: &str, key: &str) -> Self {
        let ports = Ports::free().unwrap();
        let url = ports.control();
        let token = PUBLISHER.strip_prefix("Bearer ").unwrap();
        let common = [("GRIP_URL", &*url), ("GRIP_PREFIX", "test-"), ("GRIP_PUBLISH_TOKEN", token)];
        let variables = [&common, variables].concat();

        let bootstrap = &postern_local::Project::here().unwrap().program("grip-echo");
        let function = Function::start(bootstrap, 2, &variables).await.unwrap();
        let route = Route::all(function.address()).signed(issuer, key);
        Self::launch(turn, ports, function, route).await
    }

    /// Publishes a text through the function's own `POST /publish`.
    pub(crate) async fn publish_text(&self, text: &str) {
        let answer = post(self.pushpin.clients(), "/publish", Some(PUBLISHER), text.as_bytes());
        let answer = within_timeout(answer).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text().await.unwrap(), "Published\n");
    }

    /// A client that already receives what is published. Pushpin subscribes it some time after it has connected.
    pub(crate) async fn listener(&self) -> Client {
        let mut client = self.connect().await;

        for n in 0.. {
            let probe = Message::text(format!("probe {n}"));
            self.publish_text(probe.to_text().unwrap()).await;
            if let Ok(first) = timeout(Duration::from_millis(100), client.next()).await {
                if first != probe {
                    client.skip_to(&probe).await;
                }
                break;
            }
        }
        client
    }
}
