//! Event filters (`FilterCriteria`): which records the function gets, by their values.
//!
//! Lambda filters Kafka records on `value` only, after it has decoded them. A pattern for JSON matches no value that is plain text, and the other
//! way round. A record that no pattern matches is committed without an invocation, as Lambda does. The operators are
//! exact values, `null`, `prefix`, `suffix`, `equals-ignore-case`, `anything-but`, `numeric`, `exists` and `$or`;
//! wildcards and IP addresses are not supported, and a pattern with them is refused.

use serde_json::{Map, Number, Value};

use crate::event::Record;

/// A pattern is not one that this poller evaluates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the filter {pattern} is invalid: {problem}; a filter is like {{\"value\":{{\"country\":[\"DE\"]}}}}"
)]
pub struct InvalidFilter {
    pattern: String,
    problem: String,
}

/// The patterns of a mapping. A record has to match one of them; without a pattern every record matches.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<Node>);

/// What a part of a value has to be.
#[derive(Debug, Clone)]
enum Node {
    /// An object: every member has to match, and of each `$or` one alternative.
    Object(Vec<(String, Node)>, Vec<Vec<Node>>),
    /// A value that one of these conditions accepts.
    OneOf(Vec<Condition>),
}

#[derive(Debug, Clone)]
enum Condition {
    Equals(Value),
    EqualsIgnoringCase(String),
    Prefix(String),
    Suffix(String),
    AnythingBut(Vec<Value>),
    /// Comparisons, all of which have to hold.
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filters {
    /// Parses patterns such as `{"value":{"country":["DE"]}}`.
    pub fn parse<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, InvalidFilter> {
        let parse = |pattern: &str| {
            let invalid = |problem: String| InvalidFilter { pattern: pattern.to_owned(), problem };
            let json: Value = serde_json::from_str(pattern).map_err(|error| invalid(error.to_string()))?;
            match json.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("value")) {
                Some(value) => node(value).map_err(invalid),
                None => Err(invalid("its only member must be value".to_owned())),
            }
        };
        patterns.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a record matches.
    pub fn matches(&self, record: &Record) -> bool {
        if self.0.is_empty() {
            return true;
        }

        let bytes = record.event_value().unwrap_or(b"null");
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let json = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        self.0.iter().any(|node| node.matches(Some(&json)))
    }
}

impl Node {
    fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Self::OneOf(conditions) => match value {
                // An array matches if one of its elements does.
                Some(Value::Array(list)) => conditions
                    .iter()
                    .any(|condition| list.iter().any(|element| condition.accepts(Some(element)))),
                value => conditions.iter().any(|condition| condition.accepts(value)),
            },
            Self::Object(members, alternatives) => {
                let object = value.and_then(Value::as_object);
                members.iter().all(|(name, node)| node.matches(object.and_then(|object| object.get(name))))
                    && alternatives.iter().all(|nodes| nodes.iter().any(|node| node.matches(value)))
            }
        }
    }
}

impl Condition {
    fn accepts(&self, value: Option<&Value>) -> bool {
        let text = value.and_then(Value::as_str);
        match self {
            Self::Exists(expected) => value.is_some() == *expected,
            Self::Equals(expected) => value.is_some_and(|value| equal(value, expected)),
            Self::EqualsIgnoringCase(expected) => {
                text.is_some_and(|text| text.to_lowercase() == expected.to_lowercase())
            }
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix)),
            Self::AnythingBut(list) => {
                value.is_some_and(|value| !list.iter().any(|other| equal(value, other)))
            }
            Self::Numeric(comparisons) => value.and_then(Value::as_f64).is_some_and(|number| {
                comparisons.iter().all(|(comparison, bound)| comparison.holds(number, *bound))
            }),
        }
    }
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn holds(self, number: f64, bound: f64) -> bool {
        match self {
            Self::Equal => number.total_cmp(&bound).is_eq(),
            Self::Less => number < bound,
            Self::LessOrEqual => number <= bound,
            Self::Greater => number > bound,
            Self::GreaterOrEqual => number >= bound,
        }
    }
}

/// Whether two values are equal; numbers by their value, however they are written.
fn equal(one: &Value, other: &Value) -> bool {
    let number = |value: &Value| value.as_number().and_then(Number::as_f64);
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

fn node(pattern: &Value) -> Result<Node, String> {
    match pattern {
        Value::Array(list) if list.is_empty() => Err("a list of conditions is empty".to_owned()),
        Value::Array(list) => list.iter().map(condition).collect::<Result<_, _>>().map(Node::OneOf),
        Value::Object(members) => object(members),
        other => Err(format!("{other} must be a list of conditions or an object")),
    }
}

fn object(pattern: &Map<String, Value>) -> Result<Node, String> {
    let (mut members, mut alternatives) = (Vec::new(), Vec::new());
    for (name, value) in pattern {
        match value.as_array().filter(|_| name == "$or") {
            Some(list) => alternatives.push(list.iter().map(node).collect::<Result<Vec<_>, _>>()?),
            None => members.push((name.clone(), node(value)?)),
        }
    }
    Ok(Node::Object(members, alternatives))
}

fn condition(pattern: &Value) -> Result<Condition, String> {
    let Value::Object(operator) = pattern else { return Ok(Condition::Equals(pattern.clone())) };
    let mut members = operator.iter();
    let (Some((name, argument)), None) = (members.next(), members.next()) else {
        return Err(format!("{pattern} must have exactly one operator"));
    };

    let text = || argument.as_str().map(str::to_owned).ok_or_else(|| format!("{name} needs a text"));
    match name.as_str() {
        "prefix" => text().map(Condition::Prefix),
        "suffix" => text().map(Condition::Suffix),
        "equals-ignore-case" => text().map(Condition::EqualsIgnoringCase),
        "exists" => {
            argument.as_bool().map(Condition::Exists).ok_or_else(|| "exists needs true or false".to_owned())
        }
        "anything-but" => match argument {
            Value::Object(_) => Err("anything-but with an operator is not supported".to_owned()),
            Value::Array(list) => Ok(Condition::AnythingBut(list.clone())),
            single => Ok(Condition::AnythingBut(vec![single.clone()])),
        },
        "numeric" => numeric(argument).map(Condition::Numeric),
        _ => Err(format!("the operator {name} is not supported")),
    }
}

/// The comparisons of a list such as `[">", 0, "<=", 10]`.
fn numeric(argument: &Value) -> Result<Vec<(Comparison, f64)>, String> {
    let problem = || format!("numeric needs comparisons such as [\">\", 0, \"<=\", 10], not {argument}");
    let (pairs, rest) =
        argument.as_array().filter(|list| !list.is_empty()).ok_or_else(problem)?.as_chunks::<2>();
    let pair =
        |[comparison, bound]: &[Value; 2]| Some((Comparison::parse(comparison.as_str()?)?, bound.as_f64()?));
    let comparisons: Option<Vec<_>> = pairs.iter().map(pair).collect();
    comparisons.filter(|_| rest.is_empty()).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decoded, TimestampType};

    fn matches(pattern: &str, value: Option<&str>) -> bool {
        let record = Record {
            partition: 0,
            offset: 0,
            timestamp: (0, TimestampType::CreateTime),
            key: None,
            value: value.map(Into::into),
            headers: Vec::new(),
            decoded: Decoded::default(),
        };
        Filters::parse([pattern]).unwrap().matches(&record)
    }

    #[test]
    fn every_operator_accepts_and_refuses() {
        let value = Some(r#"{"n":5,"s":"Straße","list":[1,2],"nested":{"a":null}}"#);
        for (pattern, accepted) in [
            (r#"{"n":[5.0]}"#, true),
            (r#"{"n":["5"]}"#, false),
            (r#"{"n":[4,5],"s":["x"]}"#, false),
            (r#"{"s":[{"prefix":"Str"}]}"#, true),
            (r#"{"s":[{"suffix":"Str"}]}"#, false),
            (r#"{"s":[{"equals-ignore-case":"STRAße"}]}"#, true),
            (r#"{"s":[{"anything-but":["a","b"]}]}"#, true),
            (r#"{"n":[{"anything-but":5}]}"#, false),
            (r#"{"n":[{"numeric":[">",0,"<",5]}]}"#, false),
            (r#"{"n":[{"numeric":[">=",5]}]}"#, true),
            (r#"{"absent":[{"exists":false}]}"#, true),
            (r#"{"absent":[{"anything-but":"x"}]}"#, false),
            (r#"{"nested":{"a":[null]}}"#, true),
            (r#"{"nested":{"a":[{"exists":true}],"b":[{"exists":true}]}}"#, false),
            (r#"{"list":[2]}"#, true),
            (r#"{"$or":[{"n":[1]},{"s":[{"prefix":"S"}]}]}"#, true),
            (r#"{"$or":[{"n":[1]},{"n":[2]}]}"#, false),
        ] {
            assert_eq!(matches(&format!(r#"{{"value":{pattern}}}"#), value), accepted, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_for_json_matches_no_text_and_the_other_way_round() {
        assert!(matches(r#"{"value":["a,b"]}"#, Some("a,b")));
        assert!(!matches(r#"{"value":["a,b"]}"#, Some(r#"{"a":1}"#)));
        assert!(!matches(r#"{"value":{"a":[1]}}"#, Some("a,b")));
        assert!(!matches(r#"{"value":{"a":[1]}}"#, None), "a tombstone has no members");
    }

    #[test]
    fn without_a_pattern_every_record_matches_and_of_several_one_is_enough() {
        let record = |value: &str| Record {
            partition: 0,
            offset: 0,
            timestamp: (0, TimestampType::CreateTime),
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            decoded: Decoded::default(),
        };
        assert!(Filters::default().matches(&record("x")));
        let two = Filters::parse([r#"{"value":["a"]}"#, r#"{"value":["b"]}"#]).unwrap();
        assert!(two.matches(&record("b")) && !two.matches(&record("c")));
    }

    #[test]
    fn a_pattern_that_would_be_evaluated_wrongly_is_refused() {
        for (pattern, problem) in [
            ("x", "is invalid"),
            (r#"{"key":["a"]}"#, "its only member must be value"),
            (r#"{"value":"a"}"#, "must be a list of conditions"),
            (r#"{"value":[]}"#, "a list of conditions is empty"),
            (r#"{"value":[{"wildcard":"a*"}]}"#, "the operator wildcard is not supported"),
            (r#"{"value":[{"numeric":[">"]}]}"#, "numeric needs comparisons"),
            (r#"{"value":[{"prefix":1}]}"#, "prefix needs a text"),
        ] {
            let error = Filters::parse([pattern]).unwrap_err().to_string();
            assert!(error.contains(problem), "{pattern}: {error}");
        }
    }
}
