//! Tenants, and the MQTT topics that belong to them.

use std::fmt;

use serde::Serialize;

use crate::limits::{TOPIC_BYTES, TOPIC_SLASHES};

/// The name of a tenant: one level of an MQTT topic, of letters, digits and `. _ : -`. A job runs on its tenant's worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Tenant(String);

/// The reason for which a text cannot name a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTenant {
    /// The text is empty.
    #[error("the tenant is empty; name one, such as \"tenant1\"")]
    Empty,
    /// The text is longer than an IoT thing name may be.
    #[error("the tenant has {0} characters; at most {max} are allowed", max = Tenant::MAX_CHARS)]
    TooLong(usize),
    /// The text contains a character that would change the meaning of a topic or of an IoT policy.
    #[error("the tenant has the character {0:?}; use letters, digits and . _ : - only, such as \"tenant1\"")]
    Character(char),
}

impl Tenant {
    /// The length of the longest tenant name, in characters: that of an IoT thing name.
    pub const MAX_CHARS: usize = 128;

    /// Accepts 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
    pub fn parse(tenant: &str) -> Result<Self, InvalidTenant> {
        if let Some(bad) = tenant.chars().find(|c| !c.is_ascii_alphanumeric() && !"._:-".contains(*c)) {
            return Err(InvalidTenant::Character(bad));
        }
        match tenant.len() {
            0 => Err(InvalidTenant::Empty),
            chars if chars > Self::MAX_CHARS => Err(InvalidTenant::TooLong(chars)),
            _ => Ok(Self(tenant.to_owned())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic to which AWS IoT Core accepts a publish: printable ASCII without blanks, at most 256 bytes and 7 slashes, no
/// empty level, no wildcard, and no `$`, which is reserved for the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Topic(String);

/// The reason for which a text cannot be a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// A level is empty, as in `a//b`, `/a`, `a/` and the empty text.
    #[error("the topic has an empty level; write it like \"tenant1/to/worker\"")]
    EmptyLevel,
    /// The topic contains a wildcard, a `$`, a blank, a control character, or a character outside ASCII.
    #[error(
        "the topic has the character {0:?}; wildcards (+ #), $, blanks and characters outside ASCII cannot be used"
    )]
    Character(char),
    /// The topic is longer than the 256 bytes that AWS IoT Core accepts.
    #[error("the topic has {0} bytes; AWS IoT Core accepts at most {TOPIC_BYTES}")]
    TooLong(usize),
    /// The topic has more than the 7 slashes that AWS IoT Core accepts.
    #[error("the topic has {0} slashes; AWS IoT Core accepts at most {TOPIC_SLASHES}")]
    TooDeep(usize),
    /// The topic contains a brace that is not part of `{tenant}`.
    #[error("the topic has a brace that is not part of {{tenant}}, the only placeholder")]
    Placeholder,
    /// The configured topic has no placeholder and belongs to another tenant than the job.
    #[error(
        "the topic {topic:?} does not belong to tenant {tenant:?}; write {{tenant}} in WORKER_TOPIC, so that a job can name its tenant"
    )]
    OtherTenant {
        /// The configured topic.
        topic: String,
        /// The job's tenant.
        tenant: String,
    },
}

impl Topic {
    /// Accepts every topic that AWS IoT Core accepts.
    pub fn parse(topic: impl Into<String>) -> Result<Self, InvalidTopic> {
        let topic = topic.into();

        if let Some(bad) = topic.chars().find(|c| !c.is_ascii_graphic() || "+#$".contains(*c)) {
            return Err(InvalidTopic::Character(bad));
        }
        if topic.contains(['{', '}']) {
            return Err(InvalidTopic::Placeholder);
        }
        if topic.len() > TOPIC_BYTES {
            return Err(InvalidTopic::TooLong(topic.len()));
        }
        let slashes = topic.matches('/').count();
        if slashes > TOPIC_SLASHES {
            return Err(InvalidTopic::TooDeep(slashes));
        }
        if topic.split('/').any(str::is_empty) {
            return Err(InvalidTopic::EmptyLevel);
        }

        Ok(Self(topic))
    }

    /// The topic on which a tenant's workers report the progress of their jobs: `{tenant}/progress`.
    pub fn progress(tenant: &Tenant) -> Self {
        Self(format!("{tenant}/progress"))
    }

    /// The topic on which all workers of a tenant are told of cancelled jobs: `{tenant}/to/worker/cancel`.
    pub fn cancel(tenant: &Tenant) -> Self {
        Self(format!("{tenant}/to/worker/cancel"))
    }

    /// The topic of commands to one worker: `{tenant}/to/worker/{clientId}`. The client id is one level of the topic.
    pub fn command(tenant: &Tenant, client_id: &str) -> Result<Self, InvalidTopic> {
        Self::of_client(format!("{tenant}/to/worker"), client_id)
    }

    /// The topic of a worker's retained state: `{tenant}/workers/{clientId}`. The client id is one level of the topic.
    pub fn presence(tenant: &Tenant, client_id: &str) -> Result<Self, InvalidTopic> {
        Self::of_client(format!("{tenant}/workers"), client_id)
    }

    fn of_client(parent: String, client_id: &str) -> Result<Self, InvalidTopic> {
        match client_id.chars().find(|c| *c == '/') {
            Some(slash) => Err(InvalidTopic::Character(slash)),
            None => Self::parse(parent + "/" + client_id),
        }
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured topic that may contain `{tenant}`.
///
/// ```
/// use postern_types::{Tenant, TopicTemplate};
///
/// let template = TopicTemplate::parse("{tenant}/to/worker")?;
/// let topic = template.for_tenant(&Tenant::parse("plant-7")?)?;
/// assert_eq!(topic.as_str(), "plant-7/to/worker");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate(String);

impl TopicTemplate {
    const PLACEHOLDER: &str = "{tenant}";

    /// Accepts a template that gives a valid topic for a tenant of one character.
    pub fn parse(template: impl Into<String>) -> Result<Self, InvalidTopic> {
        let template = template.into();
        Topic::parse(template.replace(Self::PLACEHOLDER, "t"))?;
        Ok(Self(template))
    }

    /// The topic for `tenant`. A template without a placeholder serves only the tenant that its first level names, so
    /// that a job never reaches another tenant's worker.
    pub fn for_tenant(&self, tenant: &Tenant) -> Result<Topic, InvalidTopic> {
        if !self.0.contains(Self::PLACEHOLDER) && self.0.split('/').next() != Some(tenant.as_str()) {
            return Err(InvalidTopic::OtherTenant { topic: self.0.clone(), tenant: tenant.0.clone() });
        }
        Topic::parse(self.0.replace(Self::PLACEHOLDER, tenant.as_str()))
    }

    /// The topic for a job without a tenant: `default` replaces the placeholder, if there is one.
    pub fn for_default(&self, default: &Tenant) -> Result<Topic, InvalidTopic> {
        Topic::parse(self.0.replace(Self::PLACEHOLDER, default.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    #[test]
    fn a_tenant_is_one_topic_level_of_plain_characters() {
        assert_eq!(tenant("Plant_7:line-2.a").as_str(), "Plant_7:line-2.a");
        assert_eq!(Tenant::parse(""), Err(InvalidTenant::Empty));
        assert_eq!(Tenant::parse(&"t".repeat(129)), Err(InvalidTenant::TooLong(129)));
        for (name, bad) in [("a/b", '/'), ("a+", '+'), ("#", '#'), ("$aws", '$'), ("a b", ' '), ("é", 'é')]
        {
            assert_eq!(Tenant::parse(name), Err(InvalidTenant::Character(bad)), "{name}");
        }
    }

    #[test]
    fn a_topic_keeps_to_the_limits_of_iot_core() {
        assert!(Topic::parse("tenant1/to/worker").is_ok());
        assert!(Topic::parse("1/2/3/4/5/6/7/8").is_ok());
        assert_eq!(Topic::parse("1/2/3/4/5/6/7/8/9"), Err(InvalidTopic::TooDeep(8)));
        assert!(Topic::parse("t".repeat(256)).is_ok());
        assert_eq!(Topic::parse("t".repeat(257)), Err(InvalidTopic::TooLong(257)));
        for bad in ["", "/a", "a/", "a//b"] {
            assert_eq!(Topic::parse(bad), Err(InvalidTopic::EmptyLevel), "{bad:?}");
        }
        for bad in ["+/a", "a/#", "$aws/rules", "a/$b", "a b", "a\0", "à/b"] {
            assert!(matches!(Topic::parse(bad), Err(InvalidTopic::Character(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_template_replaces_its_placeholder_with_the_tenant() {
        let template = TopicTemplate::parse("{tenant}/to/worker").unwrap();
        assert_eq!(template.for_tenant(&tenant("b")).unwrap().as_str(), "b/to/worker");
        assert_eq!(template.for_default(&tenant("a")).unwrap().as_str(), "a/to/worker");
        assert_eq!(TopicTemplate::parse("{Tenant}/to"), Err(InvalidTopic::Placeholder));
        let long = Tenant::parse(&"t".repeat(128)).unwrap();
        let template = TopicTemplate::parse(format!("{{tenant}}/{}", "x".repeat(200))).unwrap();
        assert_eq!(template.for_tenant(&long), Err(InvalidTopic::TooLong(329)));
    }

    #[test]
    fn a_fixed_topic_serves_its_own_tenant_only() {
        let fixed = TopicTemplate::parse("tenant1/to/worker").unwrap();
        assert!(fixed.for_default(&tenant("whoever")).is_ok());
        assert!(fixed.for_tenant(&tenant("tenant1")).is_ok());
        assert!(matches!(fixed.for_tenant(&tenant("tenant2")), Err(InvalidTopic::OtherTenant { .. })));
    }

    #[test]
    fn the_topics_of_a_tenant_and_its_workers_are_those_of_the_policy() {
        let tenant = tenant("t");
        assert_eq!(Topic::progress(&tenant).as_str(), "t/progress");
        assert_eq!(Topic::cancel(&tenant).as_str(), "t/to/worker/cancel");
        assert_eq!(Topic::command(&tenant, "w:1").unwrap().as_str(), "t/to/worker/w:1");
        assert_eq!(Topic::presence(&tenant, "w:1").unwrap().as_str(), "t/workers/w:1");
        assert_eq!(Topic::command(&tenant, "a/b"), Err(InvalidTopic::Character('/')));
        assert_eq!(Topic::presence(&tenant, "+"), Err(InvalidTopic::Character('+')));
    }

    proptest! {
        #[test]
        fn a_topic_made_for_any_tenant_stays_that_tenants(name in ".{0,140}") {
            let template = TopicTemplate::parse("{tenant}/to/worker").unwrap();
            if let Ok(tenant) = Tenant::parse(&name) {
                let topic = template.for_tenant(&tenant).unwrap();
                prop_assert_eq!(topic.as_str().split('/').next(), Some(name.as_str()));
                prop_assert_eq!(topic.as_str().matches('/').count(), 2);
            }
        }

        #[test]
        fn no_text_makes_the_topic_parser_panic(text in ".{0,300}") {
            let _ = Topic::parse(text.clone());
            let _ = TopicTemplate::parse(text);
        }
    }
}
