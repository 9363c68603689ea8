//! Jobs for the handlers of a configuration file, from the message to the answer. The handlers' own tests are in the
//! worker's crate.

use std::fs;

use serde_json::{Value, json};

use crate::scripted_broker::ScriptedBroker;
use crate::site::{Site, logs};

/// Writes the site's configuration file with these sections.
fn configure(site: &Site, sections: &str) {
    let options = format!(
        "endpoint = \"localhost:{}\"\nclient_id = \"worker-1\"\ncert = \"worker-1.pem\"\nkey = \"worker-1.key\"\n\
         ca = \"ca.pem\"\nlog_level = \"debug\"\n{sections}",
        site.port
    );
    fs::write(site.path("worker.toml"), options).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sections_of_the_file_run_jobs_of_their_names() {
    let site = Site::new("handlers");
    fs::create_dir(site.path("exports")).unwrap();
    fs::write(site.path("exports/a.txt"), "payload-of-a-file").unwrap();
    fs::write(site.path("orders.sqlite"), "").unwrap();
    fs::write(site.path("database-url"), format!("sqlite://{}", site.path("orders.sqlite").display()))
        .unwrap();
    configure(
        &site,
        r#"
        [handlers.exports]
        type = "files"
        root = "exports"
        [handlers.Report]
        type = "exec"
        program = "/bin/echo"
        args = ["--day={day}"]
        [handlers.sum]
        type = "sql"
        url = { file = "database-url" }
        statement = "select :a + :b as total"
        "#,
    );
    let broker = ScriptedBroker::start(&site).await;
    let worker = site.worker_from_file("worker.log", "worker.toml");
    let mut connection = broker.accept_subscribed().await;

    let jobs = [
        ("exports", json!({"operation": "read", "path": "a.txt"})),
        ("exports", json!({"operation": "read", "path": "../worker-1.key"})),
        ("Report", json!({"day": "$(id); secret-value"})),
        ("sum", json!({"a": 1, "b": 2})),
        ("sum", json!({"a": 1})),
    ];
    for (number, (kind, input)) in (1..).zip(&jobs) {
        let job = json!({"Input": input, "TaskToken": format!("T{number}"), "Kind": kind});
        connection.publish(number, &job.to_string()).await;
    }
    connection.serve_until(|log| log.published.len() == jobs.len()).await;

    let answer = |token: &str| -> Value {
        let answers = connection.log.published.iter().map(|(_, answer)| answer);
        answers.clone().find(|answer| answer["TaskToken"] == token).unwrap().clone()
    };
    assert_eq!(answer("T1")["result"]["text"], "payload-of-a-file");
    assert_eq!(answer("T2")["Error"], "Files.OutsideRoot");
    assert_eq!(answer("T3")["result"]["stdout"], "--day=$(id); secret-value\n");
    assert_eq!(answer("T4")["result"], json!([{"total": 3}]));
    assert_eq!(answer("T5")["Error"], "Worker.InvalidInput");

    let log = logs(&worker);
    assert!(log.contains("Report, "), "the kinds keep their letters: {log}");
    for payload in ["payload-of-a-file", "secret-value", "orders.sqlite"] {
        assert!(!log.contains(payload), "{payload} is in the log:\n{log}");
    }
}

#[test]
fn a_section_that_cannot_work_keeps_the_worker_from_starting() {
    let site = Site::new("handlers-wrong");
    configure(&site, "[handlers.report]\ntype = \"exec\"\nprogram = \"report\"\n");
    let config = site.path("worker.toml").display().to_string();
    let output = site.postern_worker(&["--config".into(), config]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("handlers.report: program: "), "{message}");
}
