//! The description of the API, held against the deployed API by schemathesis.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::console::Console;

/// Makes requests from the description, valid and invalid ones, and checks each answer against it.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_its_description_says() {
    let console = Console::start("api-description").await;
    let operator = console.token("admin1");
    console.retain("tenant1/workers/w1", &json!({"State": "UP", "Kinds": ["add"], "Concurrency": 4})).await;
    for input in [1, 2, 3] {
        let body = json!({"machine": "on-prem-job", "input": {"a": input, "b": 1}});
        assert_eq!(console.post("/jobs", &operator, &body).await, 202);
    }
    console.job_in(&operator, "DISPATCHED").await;

    let (project, url) = (&console.stack.project, console.url());
    let mut command = Command::new(project.file(".postern/api-venv/bin/schemathesis"));
    command
        .args(["--config-file"])
        .arg(project.file(".ci/api/schemathesis.toml"))
        .args(["run", "--url", &url, "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {operator}")])
        .arg(project.file("functions/jobs-api/src/openapi.json"))
        .current_dir(&console.stack.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.expect("schemathesis, which `make api-tools` installs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}
