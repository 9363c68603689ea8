//! Compacts objects in a folder, for benches/kafka/compact.py.
//!
//! ```text
//! postern-compact-bench generate FOLDER ROWS    writes the objects of one partition, a tenth of them twice
//! postern-compact-bench compact FOLDER          compacts them, and prints the number of rows
//! ```

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use compact::{Condition, Config, Error, Listed, Put, Store};
use postern_runtime::env::Environment;

/// The number of rows in an object, as the template's `BatchSize`.
const BATCH: u64 = 1_000;
/// The timestamp of the first row. All rows are within an hour.
const START: u64 = 1_767_225_600_000;
const COLUMNS: &str = "id:int64,name,city,balance:decimal(18,2),since:date,note";

/// A bucket in a folder. Nothing else writes to it, so conditions need no locks.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, key: &str) -> PathBuf {
        self.0.join(key)
    }

    fn write(&self, key: &str, body: &[u8]) -> Result<(), Error> {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
        Ok(std::fs::write(path, body)?)
    }

    fn etag(&self, key: &str) -> Result<Option<String>, Error> {
        match std::fs::metadata(self.path(key)) {
            Ok(file) => Ok(Some(format!("\"{:?}\"", file.modified()?))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Store for Folder {
    /// The key of the object, and the file that becomes it.
    type Upload = (String, PathBuf);

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for file in std::fs::read_dir(self.path(prefix))? {
            let key = format!("{prefix}{}", file?.file_name().to_string_lossy());
            let etag = self.etag(&key)?.unwrap_or_default();
            listed.push(Listed { key, etag, modified: 0 });
        }
        Ok(listed)
    }

    async fn folders(&self, _: &str) -> Result<Vec<String>, Error> {
        Ok(vec!["0".to_owned()])
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, Error> {
        let Some(etag) = self.etag(key)? else { return Ok(None) };
        Ok(Some((std::fs::read(self.path(key))?.into(), etag)))
    }

    async fn put(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Result<Put, Error> {
        let present = self.etag(key)?;
        if Condition::unchanged(present.as_deref()) != condition {
            return Ok(Put::Refused);
        }
        self.write(key, &body)?;
        Ok(Put::Written)
    }

    async fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.path(key).exists())
    }

    async fn begin(&self, key: &str) -> Result<(String, PathBuf), Error> {
        let file = self.path("upload");
        std::fs::write(&file, b"")?;
        Ok((key.to_owned(), file))
    }

    async fn part(&self, upload: &mut (String, PathBuf), body: Bytes) -> Result<(), Error> {
        let mut file = std::fs::OpenOptions::new().append(true).open(&upload.1)?;
        Ok(std::io::Write::write_all(&mut file, &body)?)
    }

    async fn complete(&self, (key, file): (String, PathBuf)) -> Result<Put, Error> {
        let path = self.path(&key);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
        std::fs::rename(file, path)?;
        Ok(Put::Written)
    }

    async fn abort(&self, (_, file): (String, PathBuf)) -> Result<(), Error> {
        Ok(std::fs::remove_file(file)?)
    }
}

/// The rows from `first` to `last`, as msk-to-s3 writes them.
fn rows(first: u64, last: u64) -> String {
    let mut text = String::new();
    for offset in first..=last {
        let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let city = ["Lisboa", "Köln", "\"Washington, DC\"", "Gent"][usize::from((mixed % 4) as u8)];
        let (cents, day, time) = (mixed % 1_000_000, 1 + mixed % 28, START + offset % 3_600_000);
        let _ = writeln!(
            text,
            "{offset},Customer {mixed},{city},{}.{:02},2020-01-{day:02},\"says \"\"call {}\"\"\",t,0,{offset},{time}",
            cents / 100,
            cents % 100,
            mixed % 977
        );
    }
    text
}

/// Writes the objects. Every tenth batch comes again with bounds that are moved by half a batch.
fn generate(folder: &Folder, count: u64) -> Result<(), Error> {
    let write = |first: u64, last: u64| {
        let key = format!("t/0/customer-data-20260101T000000Z-{first:020}-{last:020}.csv");
        folder.write(&key, rows(first, last).as_bytes())
    };
    for first in (0..count).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        write(first, (first + BATCH).min(count) - 1)?;
        let again = first + BATCH / 2;
        if (first / BATCH).is_multiple_of(10) && again < count {
            write(again, (again + BATCH).min(count) - 1)?;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the bench reads the number of rows")]
async fn main() -> Result<(), postern_runtime::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", folder, count] => generate(&Folder(folder.into()), count.parse()?)?,
        ["compact", folder] => {
            let folder = Folder(Path::new(folder).to_owned());
            let config = Config::from_env(&Environment::of(&[
                ("S3_BUCKET_NAME", "bench"),
                ("KAFKA_TOPIC", "t"),
                ("CSV_COLUMNS", COLUMNS),
                ("CSV_METADATA_COLUMNS", "true"),
                ("COMPACT_MAX_MEGABYTES", "1000000"),
            ]))?;
            let closed = "2100-01-01T00:00:00Z".parse()?;
            println!("{}", compact::compact(&folder, &config, 0, closed).await?.rows);
        }
        _ => return Err("usage: postern-compact-bench generate FOLDER ROWS | compact FOLDER".into()),
    }
    Ok(())
}
