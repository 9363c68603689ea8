use std::fmt;

use serde::Serialize;

use crate::limits::{TOPIC_BYTES, TOPIC_SLASHES};

/// Whose worker a job is for: one level of an MQTT topic, of letters, digits and `. _ : -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Tenant(String);

/// Why a string cannot name a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTenant {
    /// Nothing there.
    #[error("the tenant is empty; name one, such as \"tenant1\"")]
    Empty,
    /// More than fits beside the rest of a topic.
    #[error("the tenant has {0} characters; at most {max} are allowed", max = Tenant::MAX_CHARS)]
    TooLong(usize),
    /// A character that would change the meaning of a topic or of an IoT policy.
    #[error("the tenant has the character {0:?}; use letters, digits and . _ : - only, such as \"tenant1\"")]
    Character(char),
}

impl Tenant {
    /// Longest tenant name, in characters: that of an IoT thing name.
    pub const MAX_CHARS: usize = 128;

    /// Takes 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
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

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic that one may publish to on AWS IoT Core: at most 256 bytes and 7 slashes, no empty level, no
/// wildcard, no `$` (reserved for the service), printable ASCII without blanks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Topic(String);

/// Why a string cannot be published to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// A level without a name: `a//b`, `/a`, `a/` or nothing at all.
    #[error("the topic has an empty level; write it like \"tenant1/to/worker\"")]
    EmptyLevel,
    /// A wildcard, a `$`, a blank, a control character or one outside ASCII.
    #[error(
        "the topic has the character {0:?}; wildcards (+ #), $, blanks and characters outside ASCII cannot be used"
    )]
    Character(char),
    /// AWS IoT Core takes at most 256 bytes.
    #[error("the topic has {0} bytes; AWS IoT Core takes at most {TOPIC_BYTES}")]
    TooLong(usize),
    /// AWS IoT Core takes at most 7 slashes.
    #[error("the topic has {0} slashes; AWS IoT Core takes at most {TOPIC_SLASHES}")]
    TooDeep(usize),
    /// Braces around something other than `{tenant}`.
    #[error("the topic has a brace that is not part of {{tenant}}, the one placeholder there is")]
    Placeholder,
    /// The topic is another tenant's, and no placeholder lets the job choose.
    #[error(
        "the topic {topic:?} is not tenant {tenant:?}'s; put {{tenant}} in WORKER_TOPIC to let a job choose"
    )]
    OtherTenant {
        /// The configured topic.
        topic: String,
        /// The tenant that the job named.
        tenant: String,
    },
}

impl Topic {
    /// Takes what AWS IoT Core takes.
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
        match topic.matches('/').count() {
            slashes if slashes > TOPIC_SLASHES => return Err(InvalidTopic::TooDeep(slashes)),
            _ => {}
        }
        if topic.split('/').any(str::is_empty) {
            return Err(InvalidTopic::EmptyLevel);
        }
        Ok(Self(topic))
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured topic that may hold `{tenant}`, such as `{tenant}/to/worker`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate(String);

impl TopicTemplate {
    const PLACEHOLDER: &str = "{tenant}";

    /// Takes a template that makes a valid topic for a short tenant.
    pub fn parse(template: impl Into<String>) -> Result<Self, InvalidTopic> {
        let template = template.into();
        Topic::parse(template.replace(Self::PLACEHOLDER, "t"))?;
        Ok(Self(template))
    }

    /// The topic for `tenant`. A template without a placeholder serves only the tenant that its first level
    /// names: a job can never end up with another tenant's worker.
    pub fn for_tenant(&self, tenant: &Tenant) -> Result<Topic, InvalidTopic> {
        if !self.0.contains(Self::PLACEHOLDER) && self.0.split('/').next() != Some(tenant.as_str()) {
            return Err(InvalidTopic::OtherTenant { topic: self.0.clone(), tenant: tenant.0.clone() });
        }
        Topic::parse(self.0.replace(Self::PLACEHOLDER, tenant.as_str()))
    }

    /// The topic for a job that names no tenant: the placeholder, if any, becomes `default`.
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
    fn a_tenant_is_one_plain_level() {
        assert_eq!(tenant("Plant_7:line-2.a").as_str(), "Plant_7:line-2.a");
        assert_eq!(Tenant::parse(""), Err(InvalidTenant::Empty));
        assert_eq!(Tenant::parse(&"t".repeat(129)), Err(InvalidTenant::TooLong(129)));
        for (name, bad) in [("a/b", '/'), ("a+", '+'), ("#", '#'), ("$aws", '$'), ("a b", ' '), ("é", 'é')]
        {
            assert_eq!(Tenant::parse(name), Err(InvalidTenant::Character(bad)), "{name}");
        }
    }

    #[test]
    fn a_topic_is_what_iot_core_takes() {
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
    fn a_template_puts_the_tenant_in() {
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
