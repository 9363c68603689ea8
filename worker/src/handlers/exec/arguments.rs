//! Arguments with placeholders. A filled placeholder stays in its argument, whatever characters its value has.

use std::collections::BTreeMap;

use postern_types::TaskFailure;

use crate::handlers::input::{Argument, invalid};

/// An argument of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

impl Template {
    /// Parses `--day={day}`. `{{` and `}}` are braces. The error shows the argument.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err(format!("{text:?}: an argument cannot contain NUL"));
        }
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            rest = after;

            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
            } else {
                let name = rest.split_once('}').filter(|(name, _)| brace == "{" && is_name(name));
                let (name, after) = name.ok_or_else(|| {
                    format!("{text:?}: a placeholder is {{name}}, and a brace itself is {{{{ or }}}}")
                })?;
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Placeholder(name.to_owned()));
                rest = after;
            }
        }

        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    /// The placeholders, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|part| match part {
            Part::Placeholder(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The argument with these values.
    pub(super) fn fill(&self, values: &BTreeMap<&str, &Argument>) -> Result<String, TaskFailure> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(name) => {
                    let value = text_of(name, values.get(name.as_str()).copied())?;
                    check(name, value, filled.is_empty())?;
                    filled.push_str(value);
                }
            }
        }
        Ok(filled)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn text_of<'a>(name: &str, value: Option<&'a Argument>) -> Result<&'a str, TaskFailure> {
    match value {
        Some(Argument::Text(text) | Argument::Number(text)) => Ok(text),
        Some(Argument::Bool(true)) => Ok("true"),
        Some(Argument::Bool(false)) => Ok("false"),
        _ => Err(invalid(format!("{name:?} must be a text, a number, true or false"))),
    }
}

/// Refuses values that a program may take for something other than data: an option, or the name of a file to read.
fn check(name: &str, value: &str, begins_argument: bool) -> Result<(), TaskFailure> {
    let problem = if value.contains('\0') {
        "it contains NUL"
    } else if begins_argument && value.starts_with('-') {
        "it begins with '-', so that the program would take it for an option"
    } else if value.starts_with('@') {
        "it begins with '@', which many programs take for the name of a file to read"
    } else {
        return Ok(());
    };
    Err(invalid(format!("{name:?}: {problem}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, value: &str) -> Result<String, TaskFailure> {
        let value = Argument::Text(value.into());
        Template::parse(template).unwrap().fill(&BTreeMap::from([("x", &value)]))
    }

    #[test]
    fn a_placeholder_is_an_argument_or_part_of_one() {
        assert_eq!(fill("{x}", "a b").unwrap(), "a b");
        assert_eq!(fill("--day={x};{x}", "1").unwrap(), "--day=1;1");
        assert_eq!(fill("{{x}}", "1").unwrap(), "{x}");
        assert_eq!(fill("", "1").unwrap(), "");
    }

    #[test]
    fn a_lone_brace_is_a_mistake() {
        for text in ["{", "}", "{x", "x}", "{}", "{a b}", "{a-b}", "{{x}", "\0"] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_value_that_may_be_an_option_or_a_file_is_refused() {
        for value in ["-rf", "--output=/etc/passwd", "-", "@/etc/passwd", "a\0b"] {
            assert_eq!(fill("{x}", value).unwrap_err().error(), "Worker.InvalidInput", "{value:?}");
        }
        assert!(fill("--data={x}", "@/etc/passwd").is_err());
        assert_eq!(fill("--day={x}", "-1").unwrap(), "--day=-1");
    }

    proptest! {
        #[test]
        fn a_value_is_never_read_as_a_template(value in "[^\0@-][^\0]{0,30}") {
            prop_assert_eq!(fill("<{x}>", &value).unwrap(), format!("<{value}>"));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,30}") {
            let _ = Template::parse(&text);
        }
    }
}
