use serde_json::{Value, json};

use super::*;

/// AWS Secrets Manager with one secret, and the number of reads.
#[derive(Default)]
struct Safe {
    text: RefCell<String>,
    reads: Cell<u32>,
}

impl Safe {
    fn holding(secret: &Value) -> Self {
        Self { text: RefCell::new(secret.to_string()), reads: Cell::default() }
    }

    fn put(&self, secret: &Value) {
        *self.text.borrow_mut() = secret.to_string();
    }
}

impl ReadSecret for &Safe {
    async fn read(&self, _id: &str, _version: Version) -> Result<Option<String>, UnreadableSecret> {
        self.reads.set(self.reads.get() + 1);
        Ok(Some(self.text.borrow().clone()))
    }
}

/// A configuration of one number, which the secret in `safe` or the environment has.
async fn start<'a>(
    safe: &'a Safe,
    variables: &'static [(&'static str, &'static str)],
    now: Instant,
) -> Result<Rotating<u8, &'a Safe>, ConfigError> {
    let number = |environment: &Environment<'_>| Ok(environment.parse("NUMBER", "7", str::parse)?);
    Rotating::start(move || Environment::of(variables), |_| Ok(safe), number, now).await
}

const NAMED: &[(&str, &str)] = &[("GRIP_SECRET", "arn"), ("NUMBER", "1")];

#[tokio::test]
async fn a_member_of_the_secret_replaces_the_variable_of_its_name() {
    let safe = Safe::holding(&json!({"NUMBER": "2"}));
    assert_eq!(*start(&safe, NAMED, Instant::now()).await.unwrap().current(), 2);

    let without = start(&safe, &[("NUMBER", "1")], Instant::now()).await.unwrap();
    assert!(!without.read_again(Instant::now() + BETWEEN_READS).await);
    assert_eq!((*without.current(), safe.reads.get()), (1, 1));
}

#[tokio::test]
async fn a_rotated_secret_is_in_use_after_the_next_read() {
    let (safe, start_time) = (Safe::holding(&json!({"NUMBER": "2"})), Instant::now());
    let config = start(&safe, NAMED, start_time).await.unwrap();
    let before = config.current();
    safe.put(&json!({"NUMBER": "3"}));

    assert!(config.read_again(start_time + BETWEEN_READS).await);
    assert_eq!((*before, *config.current()), (2, 3));
    assert!(!config.read_again(start_time + 2 * BETWEEN_READS).await, "it has not changed again");
}

#[tokio::test]
async fn the_secret_is_read_twice_a_minute_at_most() {
    let (safe, start_time) = (Safe::holding(&json!({"NUMBER": "2"})), Instant::now());
    let config = start(&safe, NAMED, start_time).await.unwrap();
    for second in 0..60 {
        assert!(!config.read_again(start_time + Duration::from_secs(second)).await);
    }
    assert_eq!(safe.reads.get(), 2);
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_leaves_the_configuration_as_it_is() {
    let (safe, start_time) = (Safe::holding(&json!({"NUMBER": "2"})), Instant::now());
    let config = start(&safe, NAMED, start_time).await.unwrap();
    for (number, unusable) in
        (1_u32..).zip([json!("hidden"), json!({"NUMBER": 3}), json!({"NUMBER": "hidden"})])
    {
        safe.put(&unusable);
        assert!(!config.read_again(start_time + number * BETWEEN_READS).await);
        assert_eq!(*config.current(), 2);
    }
}

#[tokio::test]
async fn an_unusable_secret_is_reported_without_its_content() {
    for secret in [json!("hidden"), json!(["hidden"]), json!({"NUMBER": ["hidden"]})] {
        let error = start(&Safe::holding(&secret), NAMED, Instant::now()).await.map(|_| ()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("GRIP_SECRET") && !error.contains("hidden"), "{error}");
    }
}
