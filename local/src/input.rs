//! The input of an execution: JSON, a file, or the sample of the state machine.

use std::fs;
use std::path::{Path, PathBuf};

use postern_local::Error;
use serde::de::IgnoredAny;

/// The input that a person gave, or the sample of `machine` in the folder `samples`.
pub(crate) fn input(given: Option<&str>, samples: &Path, machine: &str) -> Result<String, Error> {
    let Some(given) = given.filter(|given| !given.trim().is_empty()) else {
        return from_file(&sample(samples, machine)?);
    };
    if Path::new(given).is_file() {
        return from_file(Path::new(given));
    }
    match check(given) {
        Ok(()) => Ok(given.to_owned()),
        Err(_) if looks_like_a_path(given) => Err(Error::Invalid(format!("INPUT: there is no file {given}"))),
        Err(error) => Err(Error::Invalid(format!(
            "INPUT is neither a file nor valid JSON ({error}): {given}\nWrite it like INPUT='{{\"a\":1,\"b\":2}}'."
        ))),
    }
}

fn from_file(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path)
        .map_err(|error| Error::Invalid(format!("INPUT: {} cannot be read: {error}", path.display())))?;
    check(&text)
        .map_err(|error| Error::Invalid(format!("INPUT: {} is not valid JSON: {error}", path.display())))?;
    Ok(text)
}

/// The sample of a machine: `sample.json`, or else the first file by name.
fn sample(samples: &Path, machine: &str) -> Result<PathBuf, Error> {
    let folder = samples.join(machine);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort_by_key(|path| (!path.ends_with("sample.json"), path.clone()));
    files.into_iter().next().ok_or_else(|| {
        Error::Invalid(format!("{machine} has no sample in {}: give an INPUT", folder.display()))
    })
}

fn check(json: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json).map(drop)
}

fn looks_like_a_path(text: &str) -> bool {
    let json_begins = text.trim_start().starts_with(['{', '[', '"']);
    !json_begins && (text.contains('/') || Path::new(text).extension().is_some_and(|end| end == "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/statemachines")
    }

    fn refused(given: &str) -> String {
        input(Some(given), &samples(), "dojo").unwrap_err().to_string()
    }

    #[test]
    fn without_an_input_each_machine_gets_its_own_sample() {
        for machine in fs::read_dir(samples()).unwrap() {
            let machine = machine.unwrap().file_name().into_string().unwrap();
            assert!(input(None, &samples(), &machine).unwrap().contains('{'), "{machine}");
        }
        assert!(input(Some(""), &samples(), "dojo").unwrap().contains("step"));
        let error = input(None, &samples(), "none").unwrap_err().to_string();
        assert!(error.starts_with("none has no sample in "), "{error}");
    }

    #[test]
    fn json_and_files_are_taken_and_an_apostrophe_is_part_of_json() {
        assert_eq!(input(Some(r#"{"a":"it's"}"#), &samples(), "dojo").unwrap(), r#"{"a":"it's"}"#);
        let file = samples().join("dojo/true.json");
        assert_eq!(input(file.to_str(), &samples(), "dojo").unwrap(), fs::read_to_string(&file).unwrap());
    }

    #[test]
    fn a_missing_file_and_bad_json_have_messages_of_their_own() {
        assert_eq!(refused("events/none.json"), "INPUT: there is no file events/none.json");
        assert!(refused(r#"{"a":"#).starts_with("INPUT is neither a file nor valid JSON (EOF while"));
        let no_json = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(refused(no_json.to_str().unwrap()).contains("Cargo.toml is not valid JSON: "));
    }
}
