//! `make demo-kafka`: sends customers through a broker, the poller and the function into a bucket, delivers them a second
//! time in other batches, and checks that each record is read back once. The function, its role and its bucket are those
//! of `template.yml` in the emulator; the poller has the settings of the template's event source mapping.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use postern_demos::kafka::broker::{self, Broker, Produced, create_topic, produce};
use postern_demos::kafka::customers::{COLUMNS, Customer, customers};
use postern_demos::kafka::reader::Reading;
use postern_kafka_poller::event::Origin;
use postern_kafka_poller::source::committed;
use postern_local::{
    Deployment, Emulator, EmulatorOptions, EventSourceMapping, Outputs, Process, Project, Steps, say, verdict,
};

const TOPIC: &str = "customer";
const PARTITIONS: i32 = 3;
/// The ARNs of a cluster in another account and of the managed VPC connection to it. The demo calls neither: the broker on
/// this machine takes their place.
const CLUSTER: &str =
    "arn:aws:kafka:us-east-1:111111111111:cluster/producer-cluster/00000000-0000-4000-8000-000000000000-1";
const CONNECTION: &str = "arn:aws:kafka:us-east-1:123456789012:vpc-connection/111111111111/producer-cluster/00000000-0000-4000-8000-000000000000-2";
/// The time limit of each step that waits for the broker or the poller.
const TIMEOUT: Duration = Duration::from_mins(3);

#[derive(Debug, Parser)]
#[command(about = "Writes the records of a Kafka topic to S3 as CSV, each once, on this machine.")]
struct Options {
    /// The number of customers.
    #[arg(long, default_value_t = 10_000)]
    records: usize,
    /// The seed from which the customers are generated.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    verdict(demo(&Options::parse()).await)
}

async fn demo(options: &Options) -> Result<bool, Failure> {
    let project = Project::here()?;
    let folder = project.fresh_folder("demo-kafka")?;
    say("Postern: a Kafka topic of another account becomes CSV objects in S3, every record once\n");
    let steps = Steps::new();
    let stack = Stack::start(project, folder, &steps).await?;

    let file: Vec<Customer> = customers(options.seed).take(options.records).collect();
    let count = file.len();
    fill(&stack.broker.address, &file)?;
    steps.step(format_args!(
        "produced {count} customers as JSON, with quotes, commas, accents and line breaks"
    ));

    let mapping = stack.mapping().await?;
    let group = &mapping.kafka.consumer_group_id;
    steps.step(format_args!(
        "starting the poller with the template's event source mapping: {} records in a batch, group {group}",
        mapping.batch_size
    ));
    let once = stack.deliver(&mapping, group, &file, &steps).await?;
    stack.show_an_object().await?;

    // Another group starts at the beginning of the topic, so it delivers every record a second time.
    steps.step("delivering all records a second time: another consumer group, in smaller batches");
    let smaller = EventSourceMapping { batch_size: 700, ..mapping.clone() };
    let twice = stack.deliver(&smaller, "once-more", &file, &steps).await?;

    let dead = stack.dead_letters().await?;
    if !(once && twice && dead == 0) {
        let logs = stack.folder.display();
        say(format_args!(
            "\nFAILED: not every record is read once ({dead} dead letters)\n  the logs are in {logs}"
        ));
        return Ok(false);
    }
    drop(stack);
    say(format_args!(
        "\nOK: each of the {count} customers is read exactly once, with all its fields, although each was \
         delivered twice. Everything is stopped."
    ));
    Ok(true)
}

/// Starts a broker and creates the topic, once the broker accepts connections.
async fn start_broker(project: &Project, folder: &Path) -> Result<Broker, Failure> {
    let program = broker::program(&project.file(".postern/kafka-venv"))?;
    let broker = Broker::start(&program, &folder.join("broker")).await?;

    tokio::time::timeout(TIMEOUT, async {
        while create_topic(&broker.address, TOPIC, PARTITIONS).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await?;
    Ok(broker)
}

/// Produces the customers. The partitions take turns.
fn fill(broker: &str, file: &[Customer]) -> Result<(), Failure> {
    let values: Vec<String> = file.iter().map(Customer::json).collect();
    let partition = |number: usize| i32::try_from(number).unwrap_or_default() % PARTITIONS;
    let records = file.iter().zip(&values).enumerate().map(|(number, (customer, json))| Produced {
        partition: Some(partition(number)),
        key: customer.id(),
        value: Some(json.as_bytes()),
    });
    Ok(produce(broker, TOPIC, records)?)
}

/// The running parts of the demo. Dropping it stops them.
struct Stack {
    project: Project,
    folder: PathBuf,
    emulator: Emulator,
    outputs: Outputs,
    broker: Broker,
}

impl Stack {
    /// Starts the emulator, deploys the template, and starts the broker.
    async fn start(project: Project, folder: PathBuf, steps: &Steps) -> Result<Self, Failure> {
        steps.step("starting the emulator (ministack), with IAM policies enforced");
        let emulator = Emulator::start(&project, &folder, EmulatorOptions::default()).await?;

        let endpoint = emulator.endpoint();
        steps.step(format_args!("the emulator listens on {endpoint}; deploying template.yml with Kafka"));
        let deployment = Deployment::new("postern")
            .parameter("Kafka", "true")
            .parameter("MskClusterArn", CLUSTER)
            .parameter("MskSourceArn", CONNECTION)
            .parameter("CsvRecordFormat", "json")
            .parameter("CsvColumns", &COLUMNS.join(","));
        let outputs = emulator.deploy(&deployment).await?;

        let broker = start_broker(&project, &folder).await?;
        let address = &broker.address;
        steps.step(format_args!(
            "the broker (noida-db) listens on {address}; topic {TOPIC} has {PARTITIONS} partitions"
        ));
        Ok(Self { project, folder, emulator, outputs, broker })
    }

    /// The event source mapping of the deployed template.
    async fn mapping(&self) -> Result<EventSourceMapping, Failure> {
        let mappings = self.emulator.mappings(self.outputs.get("MskToS3FunctionName")).await?;
        Ok(mappings.into_iter().next().ok_or("the stack has no event source mapping")?)
    }

    /// Runs the poller until the group has committed every customer. Returns whether each is then read once.
    async fn deliver(
        &self,
        mapping: &EventSourceMapping,
        group: &str,
        file: &[Customer],
        steps: &Steps,
    ) -> Result<bool, Failure> {
        let mut poller = self.poller(mapping, group)?;
        self.progress(group, file.len(), &mut poller, steps).await?;
        poller.stop();

        let s3 = aws_sdk_s3::Client::new(&self.emulator.sdk_config());
        let reading = Reading::of(&s3, self.outputs.get("CsvBucketName"), "").await?;
        steps.step(format_args!(
            "{} objects with {} rows; by partition and offset these are {} records",
            reading.objects,
            reading.rows,
            reading.records.len()
        ));

        let mut read: Vec<Vec<String>> = reading.records.into_values().collect();
        let mut written: Vec<Vec<String>> = file.iter().map(|customer| customer.0.to_vec()).collect();
        read.sort_unstable();
        written.sort_unstable();
        Ok(read == written && reading.contradictions == 0)
    }

    fn poller(&self, mapping: &EventSourceMapping, group: &str) -> Result<Process, Failure> {
        let mut poller = Command::new(self.project.program("postern-kafka-poller"));
        poller
            .envs(self.emulator.environment())
            .args(["--bootstrap-servers", &self.broker.address, "--consumer-group-id", group])
            .args(["--function", self.outputs.get("MskToS3FunctionName")])
            .args(["--uuid", self.outputs.get("MskToS3SourceId")])
            .args(mapping.poller_options());
        Ok(Process::start("the poller", &mut poller, &self.folder.join(format!("poller-{group}.log")))?)
    }

    /// Reports how many records are committed, until all are.
    async fn progress(
        &self,
        group: &str,
        records: usize,
        poller: &mut Process,
        steps: &Steps,
    ) -> Result<(), Failure> {
        let origin = Origin::new(TOPIC, &self.broker.address);
        let records = i64::try_from(records)?;

        let wait = async {
            let mut shown = -1;
            loop {
                let (origin, group) = (origin.clone(), group.to_owned());
                let offsets = tokio::task::spawn_blocking(move || committed(&origin, &group, PARTITIONS));
                let done: i64 = offsets.await??.values().sum();

                if done > shown {
                    steps.step(format_args!("{done:>7} of {records} records written and committed"));
                    shown = done;
                }
                if done >= records {
                    return Ok(());
                }
                if poller.ended().is_some() {
                    return Err(poller.failure().into());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await?
    }

    /// Prints the key and the first lines of one object.
    async fn show_an_object(&self) -> Result<(), Failure> {
        let s3 = aws_sdk_s3::Client::new(&self.emulator.sdk_config());
        let bucket = self.outputs.get("CsvBucketName");
        let list = s3.list_objects_v2().bucket(bucket).max_keys(1).send().await?;
        let key = list.contents().first().and_then(|object| object.key()).ok_or("the bucket is empty")?;

        let object = s3.get_object().bucket(bucket).key(key).send().await?;
        let text = String::from_utf8(object.body.collect().await?.to_vec())?;
        say(format_args!("\ns3://{bucket}/\n  {key}"));
        for line in text.lines().take(3) {
            say(format_args!("    {line}"));
        }
        say("");
        Ok(())
    }

    /// The number of batches that the poller gave up.
    async fn dead_letters(&self) -> Result<usize, Failure> {
        let s3 = aws_sdk_s3::Client::new(&self.emulator.sdk_config());
        let bucket = self.outputs.get("MskDeadLetterBucketName");
        Ok(s3.list_objects_v2().bucket(bucket).send().await?.contents().len())
    }
}
