//! `make demo-kafka`: a customer file goes through a broker, the poller and the function into a bucket, and is read
//! back: every record once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Parser;
use postern_kafka_poller::broker::{Broker, Produced, create_topic, produce};
use postern_kafka_poller::customers::{COLUMNS, Customer, customers};
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::reader::Reading;
use postern_kafka_poller::source::committed;
use postern_local_lambda::Function;
use tokio::process::Command;

const TOPIC: &str = "customer";
const GROUP: &str = "msk-lambda-iam";
const PARTITIONS: i32 = 3;
const PREFIX: &str = "demo-kafka";
/// How long the broker and the poller may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// The demonstration. S3's endpoint and credentials are the environment's (`AWS_ENDPOINT_URL` and so on).
#[derive(Debug, Parser)]
struct Options {
    /// noida-db's binary.
    #[arg(long, env = "POSTERN_NOIDA_DB")]
    broker: PathBuf,
    /// The function's binary.
    #[arg(long, env = "POSTERN_MSK_TO_S3")]
    function: PathBuf,
    /// The poller's binary.
    #[arg(long, env = "POSTERN_KAFKA_POLLER")]
    poller: PathBuf,
    /// The bucket; it is made if it is not there.
    #[arg(long, default_value = "postern-demo-kafka")]
    bucket: String,
    /// A folder for the broker's data and dead letters.
    #[arg(long, default_value = ".postern/kafka")]
    folder: PathBuf,
    /// Customers in the file.
    #[arg(long, default_value_t = 10_000)]
    records: usize,
    /// The file's seed.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn say(text: &str) {
    // A terminal that is gone is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    let options = Options::parse();
    let run = options.folder.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&run)?;
    let s3 = aws_sdk_s3::Client::new(&postern_runtime::aws::config().await);
    if s3.head_bucket().bucket(&options.bucket).send().await.is_err() {
        s3.create_bucket().bucket(&options.bucket).send().await?;
    }

    let broker = Broker::start(&options.broker, &run.join("broker")).await?;
    tokio::time::timeout(PATIENCE, async {
        while create_topic(&broker.address, TOPIC, PARTITIONS).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await?;
    say(&format!("broker at {}: topic {TOPIC}, {PARTITIONS} partitions", broker.address));

    let file: Vec<(Customer, String)> = customers(options.seed)
        .take(options.records)
        .map(|customer| (customer.clone(), customer.json()))
        .collect();
    let partition = |number: usize| i32::try_from(number).unwrap_or_default() % PARTITIONS;
    produce(
        &broker.address,
        TOPIC,
        file.iter().enumerate().map(|(number, (customer, json))| Produced {
            partition: Some(partition(number)),
            key: customer.id(),
            value: Some(json.as_bytes()),
        }),
    )?;
    say(&format!("{} customers produced: quotes, commas, accents, line breaks", file.len()));

    let prefix = format!("{PREFIX}/{}", std::process::id());
    let environment = environment(&options.bucket, &prefix);
    let variables: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let lambda = Function::start(&options.function, 1, &variables).await?;
    let letters = run.join("dead-letters.jsonl");
    let mut poller = Command::new(&options.poller)
        .args(["--bootstrap-servers", &broker.address, "--topic", TOPIC, "--consumer-group-id", GROUP])
        .args(["--endpoint", &lambda.endpoint(), "--batch-size", "500", "--bisect-batch-on-function-error"])
        .arg("--dead-letters")
        .arg(&letters)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;

    let origin = Origin { topic: TOPIC.to_owned(), bootstrap_servers: broker.address.clone() };
    progress(&origin, i64::try_from(file.len())?).await?;
    poller.kill().await?;

    let reading = Reading::of(&s3, &options.bucket, &format!("{prefix}/")).await?;
    let mut expected: Vec<Vec<String>> = file.into_iter().map(|(customer, _)| customer.0.to_vec()).collect();
    let mut read: Vec<Vec<String>> = reading.records.into_values().collect();
    expected.sort_unstable();
    read.sort_unstable();
    say(&format!(
        "s3://{}/{prefix}/: {} objects, {} rows of {}",
        options.bucket,
        reading.objects,
        reading.rows,
        COLUMNS.join(", ")
    ));
    if read != expected || reading.contradictions > 0 {
        return Err(
            format!("{} records were read of {}: they are not the same", read.len(), expected.len()).into()
        );
    }
    say(&format!("every one of the {} customers is there once, field by field", expected.len()));
    Ok(())
}

/// The function's environment: ours where it is about AWS, and the demonstration's settings.
fn environment(bucket: &str, prefix: &str) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
    let columns = COLUMNS.join(",");
    for (name, value) in [
        ("S3_BUCKET_NAME", bucket),
        ("KEY_PREFIX", prefix),
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", &columns),
        ("CSV_METADATA_COLUMNS", "true"),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    environment
}

/// Shows what the group has committed until it is all.
async fn progress(origin: &Origin, records: i64) -> Result<(), postern_runtime::Error> {
    let wait = async {
        let mut shown = -1;
        loop {
            let asked = origin.clone();
            let offsets = tokio::task::spawn_blocking(move || committed(&asked, GROUP, PARTITIONS)).await??;
            let done: i64 = offsets.values().sum();
            if done > shown {
                say(&format!("{done:>8} of {records} records written and committed"));
                shown = done;
            }
            if done >= records {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await?
}
