//! The template grants only permissions that are needed: each test removes one and sees the failure that follows.

use postern_local::{Deployment, Process};

use crate::stack::{MACHINE, Stack, TIMEOUT, logged};

const TEMPLATE: &str = "template.yml";

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_publish_no_job_is_dispatched() {
    let deployment = Deployment::new("test")
        .edit(
            TEMPLATE,
            "Action: iot:Publish\n                Resource: !Sub\n",
            "Action: iot:Receive\n                Resource: !Sub\n",
        )
        .edit(MACHINE, r#""MaxAttempts": 4"#, r#""MaxAttempts": 1"#);
    let stack = Stack::with("no-publish", deployment).await;

    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Dispatcher.PublishRefused"), "{finished:?}");
    assert!(finished.cause.unwrap().contains("HTTP 403"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_write_the_table_jobs_run_all_the_same() {
    let permission = "Action: [dynamodb:BatchGetItem, dynamodb:GetItem, dynamodb:UpdateItem]\n                Resource: !GetAtt JobsTable.Arn\n              \
                      - Effect: Allow\n                Action: [logs:CreateLogStream";
    let denied =
        permission.replace("[dynamodb:BatchGetItem, dynamodb:GetItem, dynamodb:UpdateItem]", "dynamodb:Scan");
    let deployment = Deployment::new("test").edit(TEMPLATE, permission, &denied);
    let mut stack = Stack::with("no-table", deployment).await;
    stack.worker().await;

    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    assert_eq!(stack.end(&execution).await.status, "SUCCEEDED");
    let logs = stack.logged("the table of jobs could not be used", 2).await;
    assert!(logs.contains("AccessDenied"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_cancel_the_event_becomes_a_dead_letter() {
    let granted = "Resource: !GetAtt JobsTable.Arn\n              - Effect: Allow\n                Action: [iot:Publish]\n";
    let deployment =
        Deployment::new("test").edit(TEMPLATE, granted, &granted.replace("iot:Publish", "iot:Receive"));
    let stack = Stack::with("no-cancel", deployment).await;
    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    stack.job_id(&execution, 1).await;
    stack.logged("job dispatched", 1).await;
    stack.stop(&execution).await;

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["responsePayload"]["errorType"], "JobCanceller.PublishFailed", "{dead_letter}");
    assert_eq!(dead_letter["requestPayload"]["detail"]["executionArn"], execution);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_answer_tasks_the_answer_becomes_a_dead_letter() {
    let deployment = Deployment::new("test").edit(
        TEMPLATE,
        "[states:SendTaskSuccess, states:SendTaskFailure, states:SendTaskHeartbeat]",
        "[states:SendTaskHeartbeat]",
    );
    let mut stack = Stack::with("no-answer", deployment).await;

    stack.worker().await;
    stack.execute(r#"{"a":1,"b":2}"#).await;

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["responsePayload"]["errorType"], "TaskTokenDone.AccessDenied", "{dead_letter}");
    assert_eq!(dead_letter["requestPayload"]["result"], 3, "the dead letter contains the answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_invoke_the_function_the_rules_error_action_keeps_the_answer() {
    let deployment = Deployment::new("test").edit(
        TEMPLATE,
        "Principal: iot.amazonaws.com\n      SourceArn: !GetAtt AnswerRule.Arn",
        "Principal: events.amazonaws.com\n      SourceArn: !GetAtt AnswerRule.Arn",
    );
    let stack = Stack::with("no-invoke", deployment).await;
    stack.publish(r#"{"TaskToken":"t","result":1}"#).await;

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["topic"], "tenant1/to/lambda", "{dead_letter}");
    assert!(dead_letter["failures"][0]["failedResource"].is_string(), "{dead_letter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_invoke_the_dispatcher_the_first_task_fails_at_once() {
    // Edits only the role of the machines that dispatch jobs. Other roles name this policy differently.
    let policy = "PolicyName: dispatch\n          PolicyDocument:\n            Version: \"2012-10-17\"\n            \
                  Statement:\n              - Effect: Allow\n                Action: lambda:";
    let deployment = Deployment::new("test").edit(
        TEMPLATE,
        &format!("{policy}InvokeFunction"),
        &format!("{policy}GetFunction"),
    );
    let stack = Stack::with("no-machine-role", deployment).await;

    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let finished = stack.end(&execution).await;
    assert_eq!(finished.error.as_deref(), Some("Lambda.AWSLambdaException"), "{finished:?}");
}

/// Waits until a process has ended by itself, and returns its exit status.
async fn exit_status(process: &mut Process) -> std::process::ExitStatus {
    let end = tokio::time::Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = process.ended() {
            return status;
        }
        assert!(tokio::time::Instant::now() < end, "the process still runs:\n{}", process.logs());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_use_only_the_topics_of_its_tenant_and_its_own_client_id() {
    let stack = Stack::start("foreign-topic").await;
    let program = stack.project.program("postern-worker");

    let mut worker = stack.files.start(&program, &["--tenant", "tenant2"]).unwrap();
    let status = exit_status(&mut worker).await;
    assert_eq!(status.code(), Some(1));
    assert!(worker.logs().contains("iot:Subscribe on topicfilter/tenant2/to/worker"), "{}", worker.logs());

    let mut check = stack.files.start(&program, &["--tenant", "tenant2", "--check"]).unwrap();
    assert_eq!(exit_status(&mut check).await.code(), Some(1));
    let report = check.logs();
    assert!(report.contains("certificate: ok") && report.contains("connection: ok"), "{report}");
    assert!(report.contains("subscription: FAILED"), "{report}");

    let mut check = stack.files.start(&program, &["--client-id", "somebody-else", "--check"]).unwrap();
    assert_eq!(exit_status(&mut check).await.code(), Some(1));
    assert!(check.logs().contains("connection: FAILED"), "{}", check.logs());

    let mut check = stack.files.start(&program, &["--check"]).unwrap();
    assert_eq!(exit_status(&mut check).await.code(), Some(0), "{}", check.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stacks_in_one_account_run_the_jobs_of_two_tenants() {
    let first = Deployment::new("first").parameter("TenantFilter", "tenant1");
    let mut stack = Stack::with("two-stacks", first).await;
    let second =
        Deployment::new("second").parameter("DefaultTenant", "plant-7").parameter("TenantFilter", "plant-7");
    let second = stack.emulator.deploy(&second).await.unwrap();
    let files = stack.emulator.enroll(&second, None).await.unwrap();

    stack.worker().await;
    let worker = files.start(&stack.project.program("postern-worker"), &[]).unwrap();
    logged(&worker, r#""message":"subscribed""#).await;

    for (machine, a) in [(stack.outputs.state_machine(), 1), (second.state_machine(), 2)] {
        let input = format!(r#"{{"a":{a},"b":0}}"#);
        let execution = stack.executions.start(machine, &input).await.unwrap();
        let output = stack.end(&execution).await.output.unwrap();
        assert_eq!(output, format!(r#"{{"a":{a},"b":0,"lambdaOutput":{{"result":{a}}}}}"#));
    }
    assert_eq!(worker.logs().matches("job received").count(), 1, "each worker ran its own tenant's job");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_group_share_the_jobs_and_no_worker_joins_another_group() {
    let stack = Stack::start("group").await;
    let program = stack.project.program("postern-worker");
    let mut workers = Vec::new();
    for thing in ["plant-a", "plant-b"] {
        let files = stack.emulator.enroll_in_group(&stack.outputs, thing, "plant").await.unwrap();
        workers.push((files.start(&program, &[]).unwrap(), files));
    }
    for (worker, _) in &workers {
        logged(worker, r#""message":"subscribed","topic":"$share/plant/tenant1/to/worker""#).await;
    }

    let mut executions = Vec::new();
    for number in 0..16 {
        executions.push(stack.execute(&format!(r#"{{"a":{number},"b":0}}"#)).await);
    }
    for (number, execution) in executions.iter().enumerate() {
        let output = stack.end(execution).await.output.unwrap();
        assert_eq!(output, format!(r#"{{"a":{number},"b":0,"lambdaOutput":{{"result":{number}}}}}"#));
    }
    let received = |worker: &Process| worker.logs().matches("job received").count();
    let counts: Vec<_> = workers.iter().map(|(worker, _)| received(worker)).collect();
    assert_eq!(counts.iter().sum::<usize>(), executions.len(), "each job went to one worker: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "both workers had jobs: {counts:?}");

    let (first, files) = &mut workers[0];
    first.stop();
    let mut stranger = files.start(&program, &["--group", "another"]).unwrap();
    assert_eq!(exit_status(&mut stranger).await.code(), Some(1), "{}", stranger.logs());
}
