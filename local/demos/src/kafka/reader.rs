//! Reads the objects of a bucket as the documented query does: each record once, even if it was written twice.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;

/// The content of the objects.
#[derive(Debug, Default)]
pub struct Reading {
    /// The number of objects.
    pub objects: usize,
    /// The number of rows, including repeated ones.
    pub rows: usize,
    /// The fields before the metadata columns, by partition and offset.
    pub records: BTreeMap<(i32, i64), Vec<String>>,
    /// The number of rows that differ from another row of the same record. It must be 0.
    pub contradictions: usize,
}

/// An object is not CSV, has a row without the four metadata columns, or has offsets that do not rise.
#[derive(Debug, thiserror::Error)]
#[error("object {key}: {problem}")]
pub struct Unreadable {
    key: String,
    problem: String,
}

impl Reading {
    /// Adds an object: CSV without a header, whose last four columns are topic, partition, offset and timestamp.
    pub fn take(&mut self, key: &str, text: &[u8]) -> Result<(), Unreadable> {
        let unreadable = |problem: String| Unreadable { key: key.to_owned(), problem };
        self.objects += 1;

        let mut parser = csv::ReaderBuilder::new().has_headers(false).from_reader(text);
        let mut last = None;
        for row in parser.records() {
            let row = row.map_err(|error| unreadable(error.to_string()))?;
            let number =
                |back: usize| row.len().checked_sub(back).and_then(|at| row.get(at)?.parse::<i64>().ok());
            let place = number(3).and_then(|partition| Some((i32::try_from(partition).ok()?, number(2)?)));
            let place = place.ok_or_else(|| unreadable("a row without partition and offset".to_owned()))?;

            if last.is_some_and(|last| last >= place) {
                return Err(unreadable("its offsets do not rise".to_owned()));
            }
            last = Some(place);

            self.rows += 1;
            let fields: Vec<String> = row.iter().take(row.len() - 4).map(str::to_owned).collect();
            let known = self.records.entry(place).or_insert_with(|| fields.clone());
            self.contradictions += usize::from(*known != fields);
        }
        Ok(())
    }

    /// Reads all objects whose keys begin with `prefix`.
    pub async fn of(s3: &Client, bucket: &str, prefix: &str) -> Result<Self, postern_runtime::Error> {
        let mut reading = Self::default();
        let mut from = None;
        loop {
            let list = s3
                .list_objects_v2()
                .bucket(bucket)
                .prefix(prefix)
                .set_continuation_token(from)
                .send()
                .await?;
            for key in list.contents().iter().filter_map(|object| object.key()) {
                let object = s3.get_object().bucket(bucket).key(key).send().await?;
                reading.take(key, &object.body.collect().await?.into_bytes())?;
            }
            from = list.next_continuation_token;
            if from.is_none() {
                return Ok(reading);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_row_is_read_once_and_a_contradiction_is_counted() {
        let mut reading = Reading::default();
        reading.take("a", b"x,t,0,1,9\n\"y\n\",t,0,2,9\n").unwrap();
        reading.take("b", b"\"y\n\",t,0,2,9\nz,t,1,2,9\n").unwrap();
        assert_eq!(
            (reading.objects, reading.rows, reading.records.len(), reading.contradictions),
            (2, 4, 3, 0)
        );
        assert_eq!(reading.records[&(0, 2)], ["y\n"]);
        reading.take("c", b"other,t,0,2,9\n").unwrap();
        assert_eq!(reading.contradictions, 1);
        assert!(reading.take("d", b"x,t,0,2,9\nx,t,0,1,9\n").is_err());
        assert!(reading.take("e", b"x\n").is_err());
    }
}
