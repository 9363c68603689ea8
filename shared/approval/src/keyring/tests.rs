use postern_runtime::env::Environment;
use postern_types::TaskToken;

use super::*;

/// AWS Secrets Manager with one secret: its current and its previous version, and the number of reads.
#[derive(Default)]
struct Safe {
    current: Cell<Option<&'static str>>,
    previous: Cell<Option<&'static str>>,
    reads: Cell<u32>,
}

impl Safe {
    fn rotate(&self, text: &'static str) {
        self.previous.set(self.current.replace(Some(text)));
    }
}

impl ReadSecret for &Safe {
    async fn read(&self, _id: &str, version: Version) -> Result<Option<String>, UnreadableSecret> {
        self.reads.set(self.reads.get() + 1);
        let text = match version {
            Version::Current => self.current.get(),
            Version::Previous => self.previous.get(),
        };
        Ok(text.map(str::to_owned))
    }
}

const FIRST: &str = "the first key of thirty-two bytes or more";
const SECOND: &str = "the second key of thirty-two bytes or more";
const THIRD: &str = "the third key of thirty-two bytes or more";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ask() -> Ask {
    Ask { token: TaskToken::parse("some-token").unwrap(), question: "?".into(), tenant: None }
}

async fn open(safe: &Safe) -> Keyring<&Safe> {
    Keyring::open(KeySource::Secret("arn".into()), safe, at(0))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn links_of_the_key_before_the_rotation_and_of_the_one_after_it_open_everywhere() {
    let safe = Safe::default();
    safe.rotate(FIRST);
    let old = open(&safe).await;
    let before = old.query(&ask(), Decision::Approve, at(9_000));

    safe.rotate(SECOND);
    let new = open(&safe).await;
    let after = new.query(&ask(), Decision::Reject, at(9_000));

    assert_eq!(
        new.read(&before, at(1)).await,
        Ok((Decision::Approve, ask())),
        "the new instance, an old link"
    );
    assert_eq!(
        old.read(&after, at(100)).await,
        Ok((Decision::Reject, ask())),
        "the old instance, a new link"
    );
    assert_eq!(
        old.read(&before, at(101)).await,
        Ok((Decision::Approve, ask())),
        "the old instance, an old link"
    );
}

#[tokio::test]
async fn a_link_of_a_key_that_was_rotated_twice_is_forged() {
    let safe = Safe::default();
    safe.rotate(FIRST);
    let old = open(&safe).await.query(&ask(), Decision::Approve, at(9_000));

    safe.rotate(SECOND);
    safe.rotate(THIRD);

    assert_eq!(open(&safe).await.read(&old, at(100)).await, Err(InvalidLink::Forged));
}

#[tokio::test]
async fn forged_links_make_the_function_read_the_secret_twice_a_minute_at_most() {
    let safe = Safe::default();
    safe.rotate(FIRST);
    let keyring = open(&safe).await;
    let start = safe.reads.get();

    for second in 0..60 {
        assert_eq!(keyring.read("d=approve&e=1&t=x", at(second)).await, Err(InvalidLink::Forged));
    }
    assert_eq!(safe.reads.get() - start, 2, "the current and the previous version, once");
}

#[tokio::test]
async fn a_secret_that_disappears_leaves_the_keys_in_use() {
    let safe = Safe::default();
    safe.rotate(FIRST);
    let keyring = open(&safe).await;
    let link = keyring.query(&ask(), Decision::Approve, at(9_000));

    safe.current.set(None);
    assert_eq!(keyring.read("d=approve&e=1&t=x", at(100)).await, Err(InvalidLink::Forged));
    assert!(keyring.read(&link, at(101)).await.is_ok());
}

#[tokio::test]
async fn the_key_is_in_the_environment_or_in_secrets_manager() {
    const NAMED: &[(&str, &str)] = &[("APPROVAL_KEY_SECRET", "arn")];
    for (variables, secret, fault) in [
        (&[("APPROVAL_KEY", FIRST)] as &[_], None, ""),
        (NAMED, Some(FIRST), ""),
        (&[], None, "environment variable APPROVAL_KEY: it is not set; set it like APPROVAL_KEY=a-text"),
        (&[("APPROVAL_KEY", "short")], None, "environment variable APPROVAL_KEY: "),
        (NAMED, Some("short"), "the secret arn is too short: "),
        (NAMED, None, "the secret arn has no current version"),
    ] {
        let safe = Safe::default();
        safe.current.set(secret);

        let message = match KeySource::from_env(&Environment::of(variables)) {
            Ok(source) => Keyring::open(source, &safe, at(0))
                .await
                .map_or_else(|error| error.to_string(), |_| String::new()),
            Err(error) => error.to_string(),
        };

        assert_eq!(message.is_empty(), fault.is_empty(), "{message}");
        assert!(message.contains(fault), "{message}");
        assert!(!message.contains("short;"), "{message}");
    }
}
