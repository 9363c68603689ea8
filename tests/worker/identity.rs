//! Renewal of the certificate while the worker runs, and `postern-worker enroll`.

use std::fs;
use std::path::Path;

use rcgen::{CertificateSigningRequestParams, date_time_ymd};

use crate::scripted_broker::{Connection, ScriptedBroker};
use crate::site::{Site, logged, logged_times, logs};

/// Replaces the worker's key, then its certificate, by the pair `name`.
fn swap(site: &Site, name: &str) {
    fs::rename(site.path(&format!("{name}.key")), site.path("worker-1.key")).unwrap();
    fs::rename(site.path(&format!("{name}.pem")), site.path("worker-1.pem")).unwrap();
}

/// How often the certificate is renewed: `POSTERN_RENEWALS`, else three times.
fn renewals() -> u16 {
    std::env::var("POSTERN_RENEWALS").ok().and_then(|number| number.parse().ok()).unwrap_or(3)
}

/// Sends ten jobs and serves the connection until the worker closes it to use its new certificate. Returns the number
/// of jobs.
async fn work_until_closed(connection: &mut Connection, first: u16) -> u16 {
    let mut sent = 0;
    for packet_id in first..first + 10 {
        let job = format!(r#"{{"Input":{{"a":1,"b":1}},"TaskToken":"T{packet_id}"}}"#);
        connection.publish(packet_id, &job).await;
        sent += 1;
    }
    connection.serve_until_closed().await;
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_without_a_restart_and_no_job_is_lost() {
    let site = Site::new("renewed");
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut connection = broker.accept_subscribed().await;
    let mut certificates = vec![connection.client_certificate()];
    let (mut sent, mut answers) = (0, Vec::new());

    for renewal in 0..renewals() {
        let name = format!("renewal-{renewal}");
        site.certificate("ca", &name, |_| {});
        swap(&site, &name);
        sent += work_until_closed(&mut connection, 1 + renewal * 10).await;
        answers.append(&mut connection.log.published);
        connection = broker.accept(true).await;
        certificates.push(connection.client_certificate());
    }
    connection.still_works().await;
    answers.append(&mut connection.log.published);

    certificates.dedup();
    assert_eq!(
        certificates.len(),
        usize::from(renewals()) + 1,
        "each connection must present the certificate that was current"
    );
    for number in 1..=sent {
        let token = format!("T{number}");
        assert!(answers.iter().any(|(_, answer)| answer["TaskToken"] == *token), "no answer for {token}");
    }
    let runs = usize::from(sent) + 1;
    logged_times(&worker, r#""message":"job received""#, runs).await;
    assert_eq!(logs(&worker).matches(r#""message":"job received""#).count(), runs, "a job ran twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_certificate_that_do_not_match_are_not_used() {
    let site = Site::new("mismatched");
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker("worker.log", &[]);
    let mut first = broker.accept_subscribed().await;
    site.certificate("ca", "renewal", |_| {});
    fs::rename(site.path("renewal.key"), site.path("worker-1.key")).unwrap();

    logged(&worker, "the changed certificate is not used").await;
    first.still_works().await;

    fs::rename(site.path("renewal.pem"), site.path("worker-1.pem")).unwrap();
    first.serve_until_closed().await;
    broker.accept(true).await.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_warns_of_a_certificate_that_expires_soon() {
    let site = Site::new("ending");
    site.certificate("ca", "worker-1", |params| {
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let end = today.saturating_add(jiff::Span::new().days(5));
        params.not_after =
            date_time_ymd(end.year().into(), end.month().unsigned_abs(), end.day().unsigned_abs());
    });
    let worker = site.worker("worker.log", &[]);
    logged(&worker, "the worker's certificate expires soon").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_worker_connects_and_uses_a_renewed_certificate_without_a_restart() {
    let site = Site::new("enrolled");
    let broker = ScriptedBroker::start(&site).await;
    enroll(&site);
    let config = format!(
        "endpoint = \"localhost:{}\"\nclient_id = \"worker-1\"\ncert = \"identity/current/cert.pem\"\n\
         key = \"identity/current/key.pem\"\nca = \"ca.pem\"\n",
        site.port
    );
    fs::write(site.path("worker.toml"), config).unwrap();

    let _worker = site.worker_from_file("worker.log", "worker.toml");
    let mut first = broker.accept_subscribed().await;
    let certificate = first.client_certificate();

    enroll(&site);
    first.serve_until_closed().await;
    let mut second = broker.accept(true).await;
    assert_ne!(second.client_certificate(), certificate);
    second.still_works().await;
}

/// Makes a request, signs it as AWS IoT Core would, and installs the certificate.
fn enroll(site: &Site) {
    let folder = site.path("identity").display().to_string();
    let run = |more: &[&str]| {
        let arguments = [&["enroll", "--client-id", "worker-1", "--folder", &folder], more].concat();
        let output = site.postern_worker(&arguments.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };

    let report = run(&[]);
    let request = report.lines().next().unwrap().strip_prefix("the request: ").unwrap();
    sign(site, Path::new(request));
    run(&["--install", &site.path("signed.pem").display().to_string()]);
}

/// Signs a certificate signing request and writes the certificate to `signed.pem`.
fn sign(site: &Site, request: &Path) {
    let request = fs::read_to_string(request).unwrap();
    let request = CertificateSigningRequestParams::from_pem(&request).unwrap();
    fs::write(site.path("signed.pem"), request.signed_by(&site.issuer("ca")).unwrap().pem()).unwrap();
}
