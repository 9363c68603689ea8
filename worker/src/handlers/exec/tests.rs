use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

fn exec(program: &Path, args: &[&str]) -> Exec {
    let args = args.iter().map(ToString::to_string).collect();
    let env = vec!["POSTERN_TEST_ABSENT".into(), "PATH".into()];
    let program = program.into();
    Exec::new(config::Exec { program, args, env, directory: None, policy: None, timeout_seconds: 60 })
        .unwrap()
}

/// A shell script for a test. The handler itself starts no shell.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn run(program: &Path, args: &[&str], input: Value) -> Result<Output, TaskFailure> {
    exec(program, args).run(JobContext::for_test(&input)).await
}

/// Waits until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.expect("the condition never held");
}

/// Whether a process with this number runs. A zombie does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn every_value_arrives_as_one_argument_unchanged() {
    // `printf` shows each argument in a line of its own.
    let values = [
        "a b",
        "$(touch /tmp/owned)",
        "`id`",
        "; rm -rf /",
        "&& id",
        "| cat",
        "> /tmp/owned",
        "'\"",
        "\\",
        "*",
        "~",
        "$HOME",
        "${IFS}",
        "a\nb",
        "{x}",
        "{{x}}",
        "%s%n",
        "é\u{202e}",
        "",
        "\r",
        "!!",
        "#",
        "=",
        "/../",
        "\u{1}",
    ];
    for value in values {
        let output =
            run("/usr/bin/printf".as_ref(), &["<%s>[%s]", "{x}", "y={x}"], json!({"x": value})).await;
        assert_eq!(output.unwrap().stdout, format!("<{value}>[y={value}]"), "{value:?}");
    }
    assert!(!Path::new("/tmp/owned").exists());
}

#[tokio::test]
async fn what_may_be_an_option_or_a_file_never_starts_the_program() {
    for value in [
        json!("-x"),
        json!("--help"),
        json!("@/etc/passwd"),
        json!("a\0b"),
        json!(-1),
        json!(null),
        json!([1]),
    ] {
        let failure = run("/absent".as_ref(), &["{x}"], json!({"x": value})).await.unwrap_err();
        assert_eq!(failure.error(), "Worker.InvalidInput", "{value}");
        assert!(failure.cause().contains("\"x\""), "{}", failure.cause());
    }
}

#[tokio::test]
async fn the_program_sees_the_listed_variables_and_its_key_alone() {
    let output = run("/usr/bin/env".as_ref(), &[], json!(null)).await.unwrap();
    let mut lines: Vec<_> = output.stdout.lines().map(|line| line.split_once('=').unwrap()).collect();
    lines.sort_unstable();

    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["PATH", "POSTERN_IDEMPOTENCY_KEY"]);
    assert_eq!(lines[0].1, std::env::var("PATH").unwrap());
}

#[tokio::test]
async fn a_status_other_than_0_and_a_signal_are_failures_with_the_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let failing = script(folder.path(), "echo no such day >&2; exit 3");
    let failure = run(&failing, &[], json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Exec.Status");
    assert_eq!(failure.cause(), "the program ended with status 3: no such day\n");

    let killed = script(folder.path(), "kill -9 $$");
    let failure = run(&killed, &[], json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Exec.Signal");
    assert!(failure.cause().contains("SIGKILL"), "{}", failure.cause());

    let absent = run("/absent/program".as_ref(), &[], json!({})).await.unwrap_err();
    assert_eq!(absent.error(), "Exec.NotStarted");
    assert!(absent.cause().contains("/absent/program"));
}

#[tokio::test]
async fn output_without_an_end_ends_the_program() {
    let failure = run("/usr/bin/yes".as_ref(), &[], json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Worker.ResultTooLarge");
}

#[tokio::test]
async fn a_program_that_closes_its_output_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let closing = script(folder.path(), "echo done; exec >&- 2>&-; sleep 0.1; exit 4");
    assert_eq!(run(&closing, &[], json!({})).await.unwrap_err().error(), "Exec.Status");
}

#[tokio::test]
async fn descendants_end_with_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let leaving = script(folder.path(), "sleep 1000 & echo $!");
    let output = run(&leaving, &[], json!({})).await.unwrap();
    until(|| !runs(&output.stdout)).await;
}

#[tokio::test]
async fn a_cancelled_job_kills_the_whole_group_even_one_that_ignores_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait; sleep 1000",
        pids.display()
    );
    let stubborn = script(folder.path(), &text);

    let job = Arc::new(postern_types::JobMessage::parse(br#"{"TaskToken":"t","Input":{}}"#).unwrap());
    let cancel = CancellationToken::new();
    let handler = exec(&stubborn, &[]);
    let running = tokio::spawn({
        let context = JobContext::of(job, cancel.clone());
        async move { handler.run(context).await }
    });
    until(|| pids.exists()).await;
    let pids = fs::read_to_string(&pids).unwrap();
    assert!(pids.split_whitespace().all(runs));

    cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().error(), "Worker.Cancelled");
    until(|| !pids.split_whitespace().any(runs)).await;
}

#[tokio::test]
async fn an_aborted_handler_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let sleeping =
        script(folder.path(), &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display()));
    let handler = exec(&sleeping, &[]);
    let running = tokio::spawn(async move { handler.run(JobContext::for_test(&json!({}))).await });
    until(|| pid.exists()).await;

    running.abort();
    let pid = fs::read_to_string(&pid).unwrap();
    until(|| !runs(&pid)).await;
}

#[tokio::test]
async fn a_program_that_takes_longer_than_its_limit_times_out() {
    let mut config = exec("/usr/bin/sleep".as_ref(), &["1000"]).config;
    config.timeout_seconds = 0;
    let failure = Exec::new(config).unwrap().run(JobContext::for_test(&json!({}))).await.unwrap_err();
    assert_eq!(failure.error(), "Exec.Timeout");
}

#[test]
fn a_section_that_cannot_work_is_refused() {
    let config = |program: &str, arg: &str| config::Exec {
        program: program.into(),
        args: vec![arg.into()],
        env: Vec::new(),
        directory: None,
        policy: None,
        timeout_seconds: 60,
    };
    assert!(Exec::new(config("sh", "-c")).is_err_and(|error| error.contains("absolute")));
    assert!(Exec::new(config("/bin/sh", "{")).is_err_and(|error| error.contains("args")));
    assert!(Exec::new(config("/etc/passwd", "")).unwrap().check().unwrap_err().contains("executable"));
    assert!(Exec::new(config("/bin/sh", "")).unwrap().check().is_ok());
}
