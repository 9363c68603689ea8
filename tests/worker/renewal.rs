//! Certificates that live for seconds: a worker whose certificate is renewed again and again, on mosquitto, which
//! refuses every connection with a certificate that has expired.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postern_local::Process;
use rcgen::{CertificateParams, date_time_ymd};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::mosquitto::{Mosquitto, job};
use crate::scripted_broker::QUIET;
use crate::site::{Site, TIMEOUT, logged, logged_times, logs};

const CONNECTED: &str = r#""message":"connected""#;
/// The jobs that each certificate serves.
const JOBS: u64 = 5;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// How long a certificate lives: `POSTERN_CERTIFICATE_SECONDS`, else 15 seconds.
fn lifetime() -> Duration {
    Duration::from_secs(number("POSTERN_CERTIFICATE_SECONDS", 15))
}

/// Limits the certificate to the seconds until `end`.
fn expire_at(params: &mut CertificateParams, end: Timestamp) {
    let end = end.to_zoned(TimeZone::UTC);
    let date = (end.year().into(), end.month().unsigned_abs(), end.day().unsigned_abs());
    let time = end.time();
    let seconds = u64::from(time.hour().unsigned_abs()) * 3_600
        + u64::from(time.minute().unsigned_abs()) * 60
        + u64::from(time.second().unsigned_abs());
    params.not_after = date_time_ymd(date.0, date.1, date.2) + Duration::from_secs(seconds);
}

/// A certificate of the authority for the worker, `NAME.pem`. Returns the time at which it expires.
fn issue(site: &Site, name: &str) -> Timestamp {
    let end = Timestamp::now() + lifetime();
    site.certificate("ca", name, |params| expire_at(params, end));
    end
}

/// Replaces the worker's key, then its certificate, by copies of the pair `name`.
fn install(site: &Site, name: &str) {
    for kind in ["key", "pem"] {
        fs::copy(site.path(&format!("{name}.{kind}")), site.path(&format!("new.{kind}"))).unwrap();
        fs::rename(site.path(&format!("new.{kind}")), site.path(&format!("worker-1.{kind}"))).unwrap();
    }
}

/// Issues and installs certificates `NAME-0`, `NAME-1`, … until the worker has connected for the `count`th time. On a
/// machine so busy that a certificate expires unused, another one follows. Returns the last one and when it expires.
async fn renew(site: &Site, worker: &Process, name: &str, count: usize) -> (String, Timestamp) {
    let limit = Instant::now() + TIMEOUT;
    for attempt in 0.. {
        let name = format!("{name}-{attempt}");
        let end = issue(site, &name);
        install(site, &name);

        while Timestamp::now() < end {
            if logs(worker).matches(CONNECTED).count() >= count {
                return (name, end);
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert!(Instant::now() < limit, "the worker does not use its new certificate:\n{}", logs(worker));
    }
    unreachable!("an endless loop has ended")
}

/// Whether the broker takes a connection with the certificate `NAME.pem`. In TLS 1.3 a refusal comes after the
/// handshake, with the first read.
async fn is_accepted(site: &Site, name: &str) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(site.roots("ca"))
        .with_client_auth_cert(vec![site.pem(name)], site.key(name))
        .unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    let connected =
        TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from("localhost").unwrap(), stream).await;
    let Ok(mut stream) = connected else { return false };

    // The broker waits for the packet CONNECT: a connection that stays open was accepted.
    let _ = stream.flush().await;
    timeout(QUIET * 3, stream.read_u8()).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_short_lived_certificates_loses_no_job_and_expired_ones_are_refused() {
    let broker_and_site = Mosquitto::persistent("short-lived");
    let site = &broker_and_site.site;
    let mut broker = broker_and_site.broker().await;
    let worker = site.worker("worker.log", &[]);
    logged(&worker, r#""message":"subscribed""#).await;
    let mut cloud = broker_and_site.cloud().await;

    let renewals = usize::try_from(number("POSTERN_RENEWALS", 3)).unwrap();
    let mut certificates = Vec::new();
    let mut connections = logs(&worker).matches(CONNECTED).count();
    let mut sent = 0;
    for renewal in 0..renewals {
        for _ in 0..JOBS {
            cloud.send(job(&format!("T{sent}"), sent, 0)).await;
            sent += 1;
        }
        certificates.push(renew(site, &worker, &format!("renewal-{renewal}"), connections + 1).await);
        connections = logs(&worker).matches(CONNECTED).count();
    }
    let mut results = Vec::new();
    while results.len() < usize::try_from(sent).unwrap() {
        results.push(cloud.answer().await["result"].as_u64().unwrap());
    }
    results.sort_unstable();
    assert_eq!(results, (0..sent).collect::<Vec<_>>(), "a job was lost, or answered twice");

    // An open connection outlives its certificate. The next one is refused, until there is a new certificate.
    let last = certificates.iter().map(|(_, end)| *end).max().unwrap();
    assert!(is_accepted(site, "cloud").await);
    while Timestamp::now() <= last {
        sleep(Duration::from_millis(200)).await;
    }
    for (name, _) in &certificates {
        assert!(!is_accepted(site, name).await, "the broker accepted the expired certificate {name}");
    }
    broker.stop();
    let _broker = broker_and_site.broker().await;
    logged_times(&worker, "expired", 1).await;
    assert_eq!(
        logs(&worker).matches(CONNECTED).count(),
        connections,
        "connected with an expired certificate"
    );

    let mut cloud = broker_and_site.cloud().await;
    cloud.send(job("last", 1_000, 0)).await;
    renew(site, &worker, "fresh", connections + 1).await;
    assert_eq!(cloud.answer().await["result"], 1_000);
}
