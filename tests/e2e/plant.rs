//! The use cases that work with a database and files on premises: `report` and `sync-files`.
//!
//! The worker is the product's own, with the handlers of the local stack's plant.

use std::collections::BTreeSet;
use std::fs;

use postern_local::{Deployment, Finished, Outputs, Plant};
use serde_json::{Value, json};

use crate::samples::Ending::{Fails, Succeeds};
use crate::samples::{Ending, assert_ends};
use crate::stack::Stack;
use crate::variants::{Runs, without_worker};

const TEMPLATE: &str = "template.yml";
const THROTTLED: &str = "Lambda.TooManyRequestsException";
const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";
const ROWS_FAILED: Ending = Fails("Report.RowsFailed", "1 of 1 rows failed; the first: ");
const FILES_FAILED: Ending = Fails("SyncFiles.FilesFailed", "1 of 1 files failed; the first: shifts.csv: ");

/// Every sample of the two machines, and how it ends. The place of a report in S3 is left out.
fn samples() -> Vec<(&'static str, &'static str, Ending)> {
    let all = ["line-7.log", "seal.bin", "shifts.csv"];
    vec![
        ("report", "two-above", Succeeds(json!({"day": "2026-11-01", "rows": 5, "upForReview": 2}))),
        (
            "report",
            "closed-order",
            Fails("Report.RowsFailed", "1 of 2 rows failed; the first: the order is closed"),
        ),
        ("report", "no-orders", Succeeds(json!({"day": "2026-11-03", "rows": 0, "upForReview": 0}))),
        ("sync-files", "all", Succeeds(json!({"folder": "", "fetched": all, "unchanged": 0}))),
        ("sync-files", "no-folder", Fails("Files.NotFound", "no-such-folder")),
    ]
}

/// Runs every sample. Returns their files.
pub(crate) async fn run_samples(stack: &Stack, runs: &mut Runs) -> BTreeSet<String> {
    let mut run = BTreeSet::new();
    for (machine, name, ending) in samples() {
        let path = format!("events/statemachines/{machine}/{name}.json");
        let input = fs::read_to_string(stack.project.file(&path)).unwrap();
        let finished = runs.run(machine, stack.outputs.machine(machine), &input).await;
        assert_ends(&path, &without_place(finished), &ending);
        run.insert(path);
    }
    run
}

fn without_place(mut finished: Finished) -> Finished {
    finished.output = finished.output.map(|output| {
        let mut output: Value = serde_json::from_str(&output).unwrap();
        output.as_object_mut().unwrap().remove("report");
        output.to_string()
    });
    finished
}

/// Runs the machines with throttled functions, without a worker, and with an S3 that does not answer in time.
pub(crate) async fn run_outages(stack: &Stack, runs: &mut Runs, throttled: &Outputs) {
    jobs_fail(runs, throttled, THROTTLED, |_| {}).await;
    jobs_fail(runs, &stack.outputs, HEARTBEAT_TIMEOUT, without_worker).await;

    let file = json!({"folder": "", "files": ["shifts.csv"]});
    for (first, slow) in [("Compute the Checksum", "Look It Up"), ("Fetch the File", "Keep the File")] {
        let change = |definition: &mut Value| {
            let each = start_each(definition, "For Each File", first);
            each["States"][slow]["TimeoutSeconds"] = json!(0.001);
        };
        fails(runs, &stack.outputs, "sync-files", &file, change, &FILES_FAILED).await;
    }

    let nowhere =
        json!({"limit": 1, "query": {"ResultRef": {"Bucket": "no-such-bucket", "Key": "report.csv"}}});
    let at_rows = |definition: &mut Value| definition["StartAt"] = json!("For Each Row");
    let unread = Fails("States.ItemReaderFailed", "");
    fails(runs, &stack.outputs, "report", &nowhere, at_rows, &unread).await;

    let as_json = |definition: &mut Value| {
        let query = &mut definition["States"]["Query the Database"];
        query["Parameters"]["Payload"]["Job"]["Kind"] = json!("orders-of-day");
    };
    let day = json!({"day": "2026-11-01", "limit": 1});
    fails(runs, &stack.outputs, "report", &day, as_json, &Fails("Report.NotAFile", "csv")).await;
}

/// Runs the machines while no job can be run, from each state that dispatches one. `error` is that of the job.
async fn jobs_fail(
    runs: &mut Runs,
    outputs: &Outputs,
    error: &'static str,
    outage: impl Fn(&mut Value) + Copy,
) {
    let day = json!({"day": "2026-11-01", "limit": 1});
    fails(runs, outputs, "report", &day, outage, &Fails(error, "")).await;
    fails(runs, outputs, "sync-files", &json!({"folder": ""}), outage, &Fails(error, "")).await;

    let rows = json!({"limit": 1, "query": {}, "list": [{"id": "2", "total": "2400"}]});
    let listed = |definition: &mut Value| {
        definition["StartAt"] = json!("For Each Row");
        let map = definition["States"]["For Each Row"].as_object_mut().unwrap();
        map.remove("ItemReader");
        map.insert("ItemsPath".into(), json!("$.list"));
        outage(definition);
    };
    fails(runs, outputs, "report", &rows, listed, &ROWS_FAILED).await;

    let file = json!({"folder": "", "files": ["shifts.csv"]});
    for first in ["Compute the Checksum", "Fetch the File"] {
        let change = |definition: &mut Value| {
            start_each(definition, "For Each File", first);
            outage(definition);
        };
        fails(runs, outputs, "sync-files", &file, change, &FILES_FAILED).await;
    }
}

/// Makes a machine start at its Map, and each item at the state `first`. Returns the definition of an item's execution.
fn start_each<'a>(definition: &'a mut Value, map: &str, first: &str) -> &'a mut Value {
    definition["StartAt"] = json!(map);
    let each = &mut definition["States"][map]["ItemProcessor"];
    each["StartAt"] = json!(first);
    each
}

/// Runs a machine with a change. It must end as expected.
async fn fails(
    runs: &mut Runs,
    outputs: &Outputs,
    machine: &str,
    input: &Value,
    change: impl Fn(&mut Value),
    ending: &Ending,
) {
    let finished = runs.run_changed(machine, outputs.machine(machine), &input.to_string(), change).await;
    assert_ends(&format!("{machine} with {input}"), &finished, ending);
}

/// A stack with the two machines, and the worker of the plant.
async fn with_plant(name: &str, deployment: Deployment) -> (Stack, Plant) {
    let mut stack = Stack::with(name, deployment.parameter("ClaimCheck", "true")).await;
    let plant = Plant::install(&stack.files).unwrap();
    stack.worker().await;
    (stack, plant)
}

async fn run(stack: &Stack, machine: &str, input: Value) -> Finished {
    let execution = stack.executions.start(stack.outputs.machine(machine), &input.to_string()).await.unwrap();
    stack.end(&execution).await
}

/// The keys of a bucket.
async fn keys(stack: &Stack, bucket: &str) -> BTreeSet<String> {
    let objects = stack.s3().list_objects_v2().bucket(bucket).send().await.unwrap();
    objects.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect()
}

async fn content(stack: &Stack, bucket: &str, key: &str) -> Vec<u8> {
    let object = stack.s3().get_object().bucket(bucket).key(key).send().await.unwrap();
    object.body.collect().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_a_csv_object_and_the_rows_above_the_limit_are_jobs() {
    let (stack, plant) = with_plant("report", Deployment::new("test")).await;
    let finished = run(&stack, "report", json!({"day": "2026-11-01", "limit": 1000})).await;
    assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
    let output: Value = serde_json::from_str(&finished.output.unwrap()).unwrap();

    let place = |name: &str| output["report"][name].as_str().unwrap();
    let report = content(&stack, place("Bucket"), place("Key")).await;
    let expected = "id,customer,total\r\n1,Baker & Sons,120.5\r\n2,\"Müller, Söhne\",2400.0\r\n\
                    3,\"The \"\"Blue\"\" Mill\",80.25\r\n4,Ito,1000.0\r\n5,Okafor,1000.5\r\n";
    assert_eq!(String::from_utf8(report).unwrap(), expected);

    let database = rusqlite::Connection::open(plant.database()).unwrap();
    let sql = "select group_concat(id) from orders where review = 1";
    let reviewed: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(reviewed, "2,5");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_did_not_change_are_not_fetched_again() {
    let (stack, plant) = with_plant("sync-files", Deployment::new("test")).await;
    let claims = stack.outputs.get("ClaimCheckBucketName");
    let synced = stack.outputs.get("SyncedFilesBucketName");
    let sync = async || {
        let finished = run(&stack, "sync-files", json!({"folder": ""})).await;
        assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
        serde_json::from_str::<Value>(&finished.output.unwrap()).unwrap()
    };

    sync().await;
    let (fetched, kept) = (keys(&stack, claims).await, keys(&stack, synced).await);
    assert_eq!((fetched.len(), kept.len()), (3, 3));
    for key in &kept {
        let (path, _) = key.rsplit_once('/').unwrap();
        let original = fs::read(plant.exports().join(path)).unwrap();
        assert!(content(&stack, synced, key).await == original, "{path} differs");
    }

    assert_eq!(sync().await, json!({"folder": "", "fetched": [], "unchanged": 3}));
    assert_eq!(keys(&stack, claims).await, fetched, "the second run has fetched a file");
    assert_eq!(keys(&stack, synced).await, kept);

    fs::write(plant.exports().join("shifts.csv"), "shift,pieces\r\nearly,413\r\n").unwrap();
    assert_eq!(sync().await, json!({"folder": "", "fetched": ["shifts.csv"], "unchanged": 2}));
    assert_eq!(keys(&stack, claims).await.len(), 4);
    assert!(keys(&stack, synced).await.is_superset(&kept), "the content before the change is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_keep_files_each_of_them_fails_by_its_name() {
    let edited = Deployment::new("test").edit(
        TEMPLATE,
        "Action: s3:PutObject\n                Resource: !Sub ${SyncedFilesBucket.Arn}/*",
        "Action: s3:PutObject\n                Resource: !Sub ${SyncedFilesBucket.Arn}/elsewhere/*",
    );
    let (stack, _plant) = with_plant("sync-files-no-put", edited).await;
    let finished = run(&stack, "sync-files", json!({"folder": "2025"})).await;
    let ending = Fails("SyncFiles.FilesFailed", "1 of 1 files failed; the first: 2025/shifts.csv: ");
    assert_ends("sync-files", &finished, &ending);
    assert!(keys(&stack, stack.outputs.get("SyncedFilesBucketName")).await.is_empty());
}
