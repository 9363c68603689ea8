use std::fs;

use super::*;

fn section(text: &str) -> Result<Section, String> {
    let file = config::File::from_str(text, config::FileFormat::Toml);
    let sources = config::Config::builder().add_source(file).build().map_err(|error| error.to_string())?;
    sources.try_deserialize().map_err(|error| error.to_string())
}

#[test]
fn the_defaults_of_a_section_are_the_careful_ones() {
    let Section::Sql(sql) = section("type='sql'\nurl={env='DB'}\nstatement='select 1'").unwrap() else {
        panic!()
    };
    assert!(sql.read_only && sql.policy.is_none());
    assert_eq!((sql.max_rows, sql.format), (None, Format::Json));

    let Section::Http(http) = section("type='http'\nbase_url='https://h/'").unwrap() else { panic!() };
    assert_eq!(http.methods, ["GET"]);

    let Section::Files(files) = section("type='files'\nroot='/srv'").unwrap() else { panic!() };
    assert_eq!(files.operations, [Operation::Read, Operation::List, Operation::Checksum]);
}

#[test]
fn a_misspelt_option_and_an_unknown_type_are_refused() {
    for (text, named) in [
        ("type='sql'\nurl='x'\nstatement='y'\nreadonly=false", "readonly"),
        ("type='exec'\nprogram='/p'\nshell=true", "shell"),
        ("type='files'\nroot='/p'\noperations=['move']", "move"),
        ("type='sq'\nurl='x'", "sq"),
        ("type='sql'\nurl={vault='x'}\nstatement='y'", "credential"),
        ("type='exec'\nprogram='/p'\npolicy='twice'", "twice"),
    ] {
        let error = section(text).unwrap_err();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn a_secret_comes_from_a_file_and_its_text_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("url"), "postgres://u:hunter2@h/db\n").unwrap();
    let mut section = section("type='sql'\nurl={file='url'}\nstatement='select 1'").unwrap();
    section.resolve(folder.path());
    let Section::Sql(sql) = &section else { panic!() };

    assert_eq!(sql.url.read().unwrap(), "postgres://u:hunter2@h/db");
    assert!(!format!("{section:?}").contains("hunter2"));
    assert!(!format!("{:?}", Secret::Text("hunter2".into())).contains("hunter2"));
}

#[test]
fn a_secret_that_is_absent_is_named() {
    let absent = Secret::Env { env: "POSTERN_TEST_ABSENT".into() };
    assert!(absent.read().unwrap_err().to_string().contains("POSTERN_TEST_ABSENT"));
    let absent = Secret::File { file: "/absent/secret".into() };
    assert!(absent.read().unwrap_err().to_string().contains("/absent/secret"));
    let escaping = Secret::Credential { credential: "../../etc/passwd".into() };
    assert!(matches!(escaping.read(), Err(SecretError::CredentialName(_))));
}
