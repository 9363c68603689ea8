//! The local stack, on which the demonstrations and the end-to-end tests run.
//!
//! It starts the emulator ([ministack](https://pypi.org/project/ministack/) with the patches of `local/emulator`),
//! deploys `template.yml` into it, gives a worker its certificate, starts the worker, and follows executions. Every
//! process listens on loopback only, and ends when the value that owns it is dropped.

mod account;
mod api;
mod deployment;
mod emulator;
mod error;
mod executions;
mod issuer;
mod job_view;
mod jobs_table;
mod live;
mod local_stack;
mod mapping;
mod outputs;
mod package;
mod plant;
mod process;
mod project;
mod stacks;
mod terminal;
mod watch;
mod worker_files;
mod zip;

pub use account::user_config;
pub use api::{Api, Call};
pub use deployment::Deployment;
pub use emulator::{Emulator, EmulatorOptions, environment, sdk_config};
pub use error::Error;
pub use executions::{Executions, Finished};
pub use issuer::Issuer;
pub use jobs_table::jobs_table;
pub use local_stack::LocalStack;
pub use mapping::{
    Destination, DestinationConfig, EventSourceMapping, Filter, FilterCriteria, KafkaConfig,
    SchemaRegistryConfig, SchemaValidationConfig,
};
pub use outputs::{DEFAULT_MACHINE, Outputs};
pub use plant::Plant;
pub use process::Process;
pub use project::Project;
pub use terminal::{Steps, say, verdict};
pub use watch::{follow, watch};
pub use worker_files::WorkerFiles;
