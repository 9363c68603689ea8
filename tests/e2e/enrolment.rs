//! The life of a worker's identity, with the commands that an operator uses: enrol on the machine, sign, connect,
//! renew, and revoke the old certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;

use crate::stack::{Stack, logged, logged_times};

/// A machine that shall become the worker `plant-9`.
struct Machine<'a> {
    stack: &'a Stack,
    folder: PathBuf,
}

impl Machine<'_> {
    /// Runs `postern-worker` with these arguments; returns its standard output.
    fn postern_worker(&self, arguments: &[&str]) -> String {
        let program = self.stack.project.program("postern-worker");
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the operator's script, as `make enroll` and `make unenroll` do.
    fn operator(&self, arguments: &[&str]) -> Output {
        let mut command = self.stack.project.script("infra/enroll_worker.py");
        command
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .envs(self.stack.emulator.environment());
        command.args(["--stack", self.stack.outputs.stack(), "--thing", "plant-9"]).args(arguments);
        command.as_std_mut().output().unwrap()
    }

    /// Makes a key and a request on the machine, has the request signed, and installs the certificate.
    fn enroll(&self, round: &str) {
        let (folder, signed) = (text(&self.folder), self.folder.with_file_name(round));
        let enroll = ["enroll", "--client-id", "plant-9", "--folder", &folder];
        let report = self.postern_worker(&enroll);
        let request = report.lines().next().unwrap().strip_prefix("the request: ").unwrap();

        let (broker, ca) = (self.stack.emulator.broker(), text(&self.stack.emulator.ca()));
        let output = self.operator(&[
            "--csr",
            request,
            "--folder",
            &text(&signed),
            "--endpoint",
            &broker,
            "--ca",
            &ca,
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!signed.join("key.pem").exists(), "the key must not leave the machine");

        self.postern_worker(&[&enroll[..], &["--install", &text(&signed.join("cert.pem"))]].concat());
        for file in ["worker.toml", "ca.pem"] {
            fs::copy(signed.join(file), self.folder.join(file)).unwrap();
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_enrolled_renewed_and_its_old_certificate_revoked_after_the_new_one_was_used() {
    let stack = Stack::start("enrolment").await;
    let machine = Machine { folder: stack.folder.join("machine"), stack: &stack };
    machine.enroll("first");
    let config = text(&machine.folder.join("worker.toml"));
    let state = text(&stack.folder.join("state"));
    let mut command = std::process::Command::new(stack.project.program("postern-worker"));
    command.args(["--config", &config, "--state-dir", &state]);
    let worker =
        postern_local::Process::start("plant-9", &mut command, &stack.folder.join("plant-9.log")).unwrap();
    logged(&worker, r#""message":"subscribed""#).await;
    run_a_job(&stack).await;

    let old = machine.folder.join("old");
    fs::create_dir(&old).unwrap();
    for file in ["cert.pem", "key.pem"] {
        fs::copy(machine.folder.join("current").join(file), old.join(file)).unwrap();
    }
    machine.enroll("second");
    logged_times(&worker, r#""message":"connected""#, 2).await;

    let refused = machine.operator(&["--revoke-old"]);
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("--confirmed"), "{reason}");

    run_a_job(&stack).await;
    // The function's log may arrive after the end of the execution.
    let newest = reason.split("newest certificate ").nth(1).unwrap().split(' ').next().unwrap();
    stack.logged(newest, 1).await;
    let revoked = machine.operator(&["--revoke-old"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    assert_eq!(String::from_utf8_lossy(&revoked.stdout).matches("revoked and deleted").count(), 1);
    run_a_job(&stack).await;
    assert_refused(&machine, &old);
}

/// Runs a job to its end.
async fn run_a_job(stack: &Stack) {
    let execution = stack.execute(r#"{"a":15,"b":42}"#).await;
    let output: serde_json::Value =
        serde_json::from_str(&stack.end(&execution).await.output.expect("the job failed")).unwrap();
    assert_eq!(output["lambdaOutput"]["result"], json!(57));
}

/// Checks that the broker refuses a certificate that was revoked.
fn assert_refused(machine: &Machine<'_>, old: &Path) {
    let path = |folder: &Path, file: &str| text(&folder.join(file));
    let (cert, key, ca) = (path(old, "cert.pem"), path(old, "key.pem"), path(&machine.folder, "ca.pem"));
    let broker = machine.stack.emulator.broker();
    let state = text(&old.join("state"));

    let output = std::process::Command::new(machine.stack.project.program("postern-worker"))
        .args(["doctor", "--endpoint", &broker, "--client-id", "plant-9", "--state-dir", &state])
        .args(["--cert", &cert, "--key", &key, "--ca", &ca])
        .output()
        .unwrap();
    assert!(
        !output.status.success(),
        "the revoked certificate connects:\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
