//! The plant of the local stack: a database and a folder with files, and the sections of `worker.toml` whose handlers
//! give jobs access to them.
//!
//! The use cases `report` and `sync-files` work with it. Everything is in the folder `plant` beside `worker.toml`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::Error;
use crate::worker_files::WorkerFiles;

/// The handlers.
const HANDLERS: &str = include_str!("../plant/handlers.toml");
/// The tables of the database and their rows.
const ORDERS: &str = include_str!("../plant/orders.sql");

/// A database of orders, and a folder of exported files.
#[derive(Debug, Clone)]
pub struct Plant {
    folder: PathBuf,
}

impl Plant {
    /// Creates the database and the files, and adds the handlers to the worker's configuration.
    pub fn install(worker: &WorkerFiles) -> Result<Self, Error> {
        let config = worker.config();
        let plant = Self { folder: config.with_file_name("plant") };
        let old = plant.exports().join("2025");
        fs::create_dir_all(&old).map_err(Error::file(&old))?;

        let database = Connection::open(plant.database()).and_then(|open| open.execute_batch(ORDERS));
        database.map_err(|error| Error::Invalid(format!("{}: {error}", plant.database().display())))?;
        let url = format!("sqlite://{}", absolute(&plant.database())?.display());
        plant.write("database.url", url.as_bytes())?;

        plant.write("exports/shifts.csv", b"shift,pieces\r\nearly,412\r\nlate,388\r\n")?;
        plant.write("exports/line-7.log", "temperature 71\n".repeat(20_000).as_bytes())?;
        plant.write("exports/seal.bin", &[0xff, 0x00, 0xfe])?;
        plant.write("exports/2025/shifts.csv", b"shift,pieces\r\nearly,300\r\n")?;

        let mut open = fs::OpenOptions::new().append(true).open(&config).map_err(Error::file(&config))?;
        open.write_all(HANDLERS.as_bytes()).map_err(Error::file(&config))?;
        Ok(plant)
    }

    /// The SQLite database with the table `orders`.
    pub fn database(&self) -> PathBuf {
        self.folder.join("plant.db")
    }

    /// The root of the handler `exports`.
    pub fn exports(&self) -> PathBuf {
        self.folder.join("exports")
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        fs::write(&path, content).map_err(Error::file(&path))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(Error::file(path))
}
