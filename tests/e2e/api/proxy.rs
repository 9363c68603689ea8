//! A GRIP proxy in front of the console's API.

use std::net::SocketAddr;

use postern_pushpin::{Ports, Pushpin, Route};
use serde_json::json;

use super::console::Console;
use crate::stack::MACHINE;

/// The key with which the proxy signs its requests.
const KEY: &str = "changeme";

/// A proxy that passes the requests for `/live` to the API.
pub(super) async fn proxy(console: &Console, ports: Ports) -> Pushpin {
    let endpoint = console.stack.emulator.endpoint();
    let gateway: SocketAddr = endpoint.trim_start_matches("http://").parse().unwrap();

    let route = Route::path("/live", gateway).host(&console.host()).signed("pushpin", KEY);
    Pushpin::start(ports, &[route]).await.unwrap()
}

/// A console that its proxy stands in front of.
pub(super) async fn live(name: &str, ports: Ports) -> (Console, Pushpin) {
    let mut console = Console::start(name).await;
    let pushpin = proxy(&console, ports).await;
    connect(&mut console, ports, pushpin.clients()).await;
    (console, pushpin)
}

/// Tells the stack of its proxy, and has its jobs run in the handler `steps`.
async fn connect(console: &mut Console, ports: Ports, clients: SocketAddr) {
    let keys = json!({
        "GRIP_URL": ports.control(), "GRIP_VERIFY_KEY": KEY, "GRIP_CHANNEL_KEY": "base64:dGlja2V0LWtleS10aWNrZXQta2V5LXRpY2tldC1rZXk=",
    });
    let secret = console.stack.emulator.create_secret("grip", &keys.to_string()).await.unwrap();

    let deployment = console
        .deployment()
        .parameter("GripSecretArn", &secret)
        .parameter("LiveUrl", &format!("ws://{clients}/live"))
        .edit(MACHINE, r#""Kind": "add""#, r#""Kind": "steps""#);
    console.stack.outputs = console.stack.emulator.deploy(&deployment).await.unwrap();
}
