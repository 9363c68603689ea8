use std::path::Path;

use clap::Parser as _;

use super::*;

fn load(arguments: &[&str]) -> Result<Config, InvalidConfig> {
    Config::load(&CommandLine::try_parse_from([&["postern-worker"], arguments].concat()).unwrap())
}

const REQUIRED: [&str; 8] =
    ["--endpoint", "broker.example", "--client-id", "w1", "--cert", "c.pem", "--key", "k.pem"];

fn load_with(more: &[&str]) -> Result<Config, InvalidConfig> {
    load(&[&REQUIRED, more].concat())
}

#[test]
fn the_required_options_are_enough() {
    let config = load(&REQUIRED).unwrap();
    assert_eq!(config.endpoint.to_string(), "broker.example:8883");
    assert_eq!(config.job_filter(), "tenant1/to/worker");
    assert_eq!(config.answer_topic.as_str(), "tenant1/to/lambda");
    assert_eq!((config.concurrency, config.max_jobs), (8, 1_000));
    assert_eq!(config.drain, Duration::from_secs(20));
    assert_eq!(config.remember_answers, Duration::from_hours(24));
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    std::fs::write(&path, "tenant = \"plant-7\"\nconcurrency = 3\nclient_id = \"from-file\"\n").unwrap();
    let file = ["--config", path.to_str().unwrap()];

    let config = load_with(&file).unwrap();
    assert_eq!(config.client_id, "w1");
    assert_eq!(config.concurrency, 3);
    assert_eq!(config.job_topic.as_str(), "plant-7/to/worker");

    std::fs::write(&path, "tennant = \"plant-7\"\n").unwrap();
    let error = load_with(&file).unwrap_err().to_string();
    assert!(error.contains("tennant"), "{error}");
}

#[test]
fn relative_paths_in_the_file_start_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.toml");
    let text = "endpoint = \"h\"\nclient_id = \"w\"\ncert = \"current/cert.pem\"\nkey = \"/etc/key.pem\"\n";
    std::fs::write(&path, text).unwrap();

    let config = load(&["--config", path.to_str().unwrap(), "--ca", "ca.pem"]).unwrap();
    assert_eq!(config.cert, folder.path().join("current/cert.pem"));
    assert_eq!(config.key, Path::new("/etc/key.pem"));
    assert_eq!(
        config.ca.as_deref(),
        Some(Path::new("ca.pem")),
        "a flag's path starts at the working directory"
    );
}

#[test]
fn doctor_takes_options_before_and_after_its_name() {
    for arguments in [[&["doctor"], &REQUIRED[..]].concat(), [&REQUIRED[..], &["doctor"]].concat()] {
        assert_eq!(load(&arguments).unwrap().client_id, "w1");
    }
}

#[test]
fn a_proxy_is_given_or_switched_off() {
    let proxy = load_with(&["--proxy", "http://u:p@proxy:3128"]).unwrap().proxy.unwrap();
    assert_eq!(proxy.to_string(), "proxy:3128");
    assert!(load_with(&["--proxy", "none"]).unwrap().proxy.is_none());
    assert!(
        load_with(&["--proxy", "socks://x"]).unwrap_err().to_string().contains("proxy: it must be http://")
    );
}

#[test]
fn a_group_shares_the_subscription() {
    let config = load_with(&["--group", "plant", "--tenant", "t7"]).unwrap();
    assert_eq!(config.job_filter(), "$share/plant/t7/to/worker");
}

#[test]
fn the_journal_is_in_the_given_directory_or_in_one_of_the_client_id() {
    let given = load_with(&["--state-dir", "/srv/journal"]).unwrap();
    assert_eq!(given.state_dir, PathBuf::from("/srv/journal"));

    let default = load(&REQUIRED).unwrap();
    assert!(default.state_dir.ends_with("postern-worker/w1"), "{:?}", default.state_dir);
}

#[test]
fn an_error_names_the_option_and_what_would_be_right() {
    assert!(load(&[]).unwrap_err().to_string().contains("--client-id, POSTERN_CLIENT_ID or client_id"));

    for (flags, words) in [
        (["--tenant", "a/b"], "tenant: "),
        (["--job-topic", "jobs/#"], "job_topic: "),
        (["--group", "a/b"], "group: \"a/b\" must have 1 to 128 letters"),
        (["--concurrency", "0"], "concurrency: 0 is not within 1 to 256"),
        (["--max-jobs", "0"], "max_jobs: 0 is not within 1 to 100000"),
        (["--keep-alive-seconds", "0"], "keep_alive_seconds: 0 is not within 30 to 1200; AWS IoT Core"),
        (["--keep-alive-seconds", "29"], "keep_alive_seconds: 29 is not"),
        (["--keep-alive-seconds", "1201"], "keep_alive_seconds: 1201 is not"),
        (["--session-expiry-seconds", "0"], "session_expiry_seconds: 0 is not within 60 to"),
        (["--endpoint", "https://x"], "endpoint: it must be HOST or HOST:PORT"),
        (["--log-level", "loud"], "log_level: it must be"),
        (["--client-id", "$me"], "client_id: it must have"),
    ] {
        let kept = REQUIRED.chunks(2).filter(|pair| pair[0] != flags[0]).flatten().copied();
        let arguments: Vec<_> = kept.chain(flags).collect();
        let error = load(&arguments).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    for (option, limits) in [
        ("--keep-alive-seconds", ["30", "1200"]),
        ("--session-expiry-seconds", ["60", "4294967295"]),
        ("--concurrency", ["1", "256"]),
    ] {
        for limit in limits {
            load_with(&[option, limit]).unwrap();
        }
    }
}

#[test]
fn an_endpoint_may_have_a_port() {
    assert_eq!("h:443".parse(), Ok(Endpoint { host: "h".into(), port: 443 }));
    for bad in ["", ":8883", "h:", "h:0", "h:99999", "mqtts://h"] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
    }
}
