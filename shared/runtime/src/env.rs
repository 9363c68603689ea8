//! Configuration from environment variables, read once at cold start into a typed struct.

use std::fmt::Display;

/// A variable that cannot be used: which, why, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}: {problem}; set it like {name}={example}")]
pub struct InvalidVariable {
    name: &'static str,
    problem: String,
    example: &'static str,
}

type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// Where variables come from: the process's environment, or a list in a test.
pub struct Environment<'a>(Lookup<'a>);

impl Environment<'static> {
    /// The process's own.
    pub fn process() -> Self {
        Self(Box::new(|name| std::env::var(name).ok()))
    }
}

impl<'a> Environment<'a> {
    /// A fixed list, for tests.
    pub fn of(list: &'a [(&str, &str)]) -> Self {
        Self(Box::new(|name| list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())))
    }

    /// The variable `name`, else `default`, through `parse`. An empty variable counts as unset.
    pub fn parse<T, E: Display>(
        &self,
        name: &'static str,
        default: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, InvalidVariable> {
        let value = (self.0)(name).filter(|value| !value.is_empty());
        parse(value.as_deref().unwrap_or(default)).map_err(|problem| InvalidVariable {
            name,
            problem: problem.to_string(),
            example: default,
        })
    }

    /// The variable `name` through `parse`, or `None` where it is unset or empty.
    pub fn parse_optional<T, E: Display>(
        &self,
        name: &'static str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, InvalidVariable> {
        let value = (self.0)(name).filter(|value| !value.is_empty());
        let parsed = value.as_deref().map(parse).transpose();
        parsed.map_err(|problem| InvalidVariable { name, problem: problem.to_string(), example })
    }

    /// The variable `name` through `parse`; it has no default, only an `example` for the error.
    pub fn required<T, E: Display>(
        &self,
        name: &'static str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, InvalidVariable> {
        let missing = || InvalidVariable { name, problem: "it is not set".to_owned(), example };
        self.parse_optional(name, example, parse)?.ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_wins_over_its_default_unless_it_is_empty() {
        let environment = Environment::of(&[("SET", "7"), ("EMPTY", "")]);
        assert_eq!(environment.parse("SET", "1", str::parse::<u8>), Ok(7));
        assert_eq!(environment.parse("EMPTY", "1", str::parse::<u8>), Ok(1));
        assert_eq!(environment.parse("UNSET", "1", str::parse::<u8>), Ok(1));
    }

    #[test]
    fn a_variable_may_be_missing_where_that_means_something() {
        let environment = Environment::of(&[("SET", "7"), ("EMPTY", ""), ("BAD", "x")]);
        assert_eq!(environment.parse_optional("SET", "1", str::parse::<u8>), Ok(Some(7)));
        assert_eq!(environment.parse_optional("EMPTY", "1", str::parse::<u8>), Ok(None));
        assert_eq!(environment.parse_optional("UNSET", "1", str::parse::<u8>), Ok(None));
        assert!(environment.parse_optional("BAD", "1", str::parse::<u8>).is_err());
    }

    #[test]
    fn what_is_required_and_unset_is_an_error_with_an_example() {
        let environment = Environment::of(&[("SET", "7"), ("EMPTY", "")]);
        assert_eq!(environment.required("SET", "1", str::parse::<u8>), Ok(7));
        let error = environment.required("EMPTY", "1", str::parse::<u8>).unwrap_err();
        assert_eq!(error.to_string(), "environment variable EMPTY: it is not set; set it like EMPTY=1");
    }

    #[test]
    fn an_error_says_which_variable_and_what_would_be_right() {
        let error = Environment::of(&[("SIZE", "big")]).parse("SIZE", "10", str::parse::<u8>).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable SIZE: invalid digit found in string; set it like SIZE=10"
        );
    }
}
