//! The worker behind an HTTP proxy: the tunnel, the proxy's password, and what `doctor` reports about proxies that
//! refuse or intercept.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::scripted_broker::ScriptedBroker;
use crate::site::{Site, logged, logs};

/// The header of Basic authentication for the user `user` with the password `pass word`.
const AUTHORIZATION: &str = "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=";
/// The same user and password in a URL.
const CREDENTIALS: &str = "user:pass%20word";

/// What a proxy does with a CONNECT request.
#[derive(Clone)]
enum Behaviour {
    /// Opens a tunnel for requests with [`AUTHORIZATION`], and answers others with 407.
    Tunnel,
    /// Answers every request with this status line.
    Refuse(&'static str),
    /// Claims to open a tunnel, and terminates TLS itself.
    Intercept(TlsAcceptor),
}

/// An HTTP proxy that serves CONNECT requests and records them.
struct HttpProxy {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);

        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(handle(client, behaviour.clone(), Arc::clone(&log)));
            }
        });
        Self { port, requests }
    }

    fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}@127.0.0.1:{}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a CONNECT request and serves it as `behaviour` says.
async fn handle(mut client: TcpStream, behaviour: Behaviour, log: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let authorized = request.contains(AUTHORIZATION);
    log.lock().unwrap().push(request);

    match behaviour {
        Behaviour::Refuse(status) => reply(&mut client, status).await,
        Behaviour::Tunnel if !authorized => {
            reply(&mut client, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"plant\"").await;
        }
        Behaviour::Tunnel => {
            let Ok(mut server) = TcpStream::connect(target).await else {
                return reply(&mut client, "HTTP/1.1 502 Bad Gateway").await;
            };
            reply(&mut client, "HTTP/1.1 200 Connection established").await;
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        Behaviour::Intercept(acceptor) => {
            reply(&mut client, "HTTP/1.1 200 Connection established").await;
            let _ = acceptor.accept(client).await;
        }
    }
}

async fn reply(client: &mut TcpStream, head: &str) {
    let _ = client.write_all(format!("{head}\r\n\r\n").as_bytes()).await;
}

/// Runs `doctor` behind a proxy, which must fail, and returns its report.
async fn doctor(site: &Arc<Site>, proxy: String) -> String {
    let site = Arc::clone(site);
    let run = move || {
        let mut arguments = site.arguments("worker-1", "ca");
        arguments.insert(0, "doctor".into());
        arguments.extend(["--proxy".into(), proxy]);
        let output = site.postern_worker(&arguments);
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_arrive_through_a_proxy_whose_password_is_not_logged() {
    let site = Site::new("proxy");
    let broker = ScriptedBroker::start(&site).await;
    let proxy = HttpProxy::start(Behaviour::Tunnel).await;
    let worker = site.worker("worker.log", &["--proxy", &proxy.url(CREDENTIALS), "--log-level", "debug"]);

    broker.accept_subscribed().await.still_works().await;

    assert!(proxy.requests()[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", site.port)));
    for secret in ["pass word", "pass%20word", "dXNlcjpwYXNzIHdvcmQ="] {
        assert!(!logs(&worker).contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_proxy_names_the_proxy_and_no_proxy_exempts_the_endpoint() {
    let site = Site::new("environment");
    let broker = ScriptedBroker::start(&site).await;
    let proxy = HttpProxy::start(Behaviour::Tunnel).await;
    let url = proxy.url(CREDENTIALS);
    let proxied = site.worker_with("proxied.log", &[("HTTPS_PROXY", url.as_str())]);
    broker.accept_subscribed().await.still_works().await;

    drop(proxied);
    let requests = proxy.requests().len();
    assert!(requests > 0);

    let _exempt = site.worker_with("exempt.log", &[("HTTPS_PROXY", &url), ("NO_PROXY", "localhost")]);
    broker.accept_subscribed().await.still_works().await;
    assert_eq!(proxy.requests().len(), requests, "NO_PROXY exempts the endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_the_tunnel_is_logged_with_its_status_line() {
    let site = Site::new("gone");
    let broker = ScriptedBroker::start(&site).await;
    let proxy = HttpProxy::start(Behaviour::Refuse("HTTP/1.1 503 Service Unavailable")).await;
    let worker = site.worker("worker.log", &["--proxy", &proxy.url(CREDENTIALS)]);
    logged(&worker, "it answered HTTP/1.1 503 Service Unavailable").await;
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_explains_each_failure_of_a_proxy() {
    let site = Arc::new(Site::new("doctor"));
    let _broker = ScriptedBroker::start(&site).await;

    let report = doctor(&site, HttpProxy::start(Behaviour::Tunnel).await.url("user:wrong")).await;
    assert!(report.contains("asks for authentication (HTTP 407, Basic realm=\"plant\")"), "{report}");
    assert!(!report.contains("wrong"), "{report}");

    let forbid = HttpProxy::start(Behaviour::Refuse("HTTP/1.1 403 Forbidden")).await;
    let report = doctor(&site, forbid.url(CREDENTIALS)).await;
    assert!(report.contains("does not open a tunnel to localhost"), "{report}");

    site.authority("inspector");
    site.certificate("inspector", "localhost", |_| {});
    let intercept = Behaviour::Intercept(TlsAcceptor::from(Arc::new(site.server_tls())));
    let intercept = HttpProxy::start(intercept).await;
    let report = doctor(&site, intercept.url(CREDENTIALS)).await;
    assert!(report.contains(&format!("the proxy 127.0.0.1:{} intercepts TLS", intercept.port)), "{report}");

    let unused = site.unused_port();
    let report = doctor(&site, format!("http://127.0.0.1:{unused}")).await;
    assert!(report.contains(&format!("no connection to the proxy 127.0.0.1:{unused}")), "{report}");
}
