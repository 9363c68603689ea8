//! Configuration from environment variables. A function reads it once, at cold start, into a struct named `Config`.

use std::collections::BTreeMap;
use std::fmt::Display;

/// An invalid environment variable: its name, the problem, and an example of a right value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}: {problem}; set it like {name}={example}")]
pub struct InvalidVariable {
    name: &'static str,
    problem: String,
    example: &'static str,
}

type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// A source of variables: the process's environment, or a fixed list in a test.
///
/// ```
/// use postern_runtime::env::Environment;
///
/// let environment = Environment::of(&[("BATCH", "many")]);
/// let error = environment.parse("BATCH", "100", str::parse::<u32>).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "environment variable BATCH: invalid digit found in string; set it like BATCH=100"
/// );
/// ```
pub struct Environment<'a>(Lookup<'a>);

impl Environment<'static> {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(Box::new(|name| std::env::var(name).ok()))
    }
}

impl<'a> Environment<'a> {
    /// A fixed list of names and values, for tests.
    pub fn of(list: &'a [(&str, &str)]) -> Self {
        Self(Box::new(|name| list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())))
    }

    /// This environment, in which `values` replace the variables of the same names. The values of a secret are one case.
    #[must_use]
    pub fn with(self, values: BTreeMap<String, String>) -> Self {
        Self(Box::new(move |name| values.get(name).cloned().or_else(|| (self.0)(name))))
    }

    /// Parses the variable `name`, or `default` if the variable is unset or empty. The default is also the example of an
    /// error message; where the default is empty, use [`Environment::parse_or`].
    pub fn parse<T, E: Display>(
        &self,
        name: &'static str,
        default: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, InvalidVariable> {
        self.parse_or(name, default, default, parse)
    }

    /// [`Environment::parse`] with an `example` of its own for the error message.
    pub fn parse_or<T, E: Display>(
        &self,
        name: &'static str,
        default: &'static str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, InvalidVariable> {
        let value = (self.0)(name).filter(|value| !value.is_empty());
        parse(value.as_deref().unwrap_or(default)).map_err(|problem| InvalidVariable {
            name,
            problem: problem.to_string(),
            example,
        })
    }

    /// Parses the variable `name`. An unset or empty variable is `None`.
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

    /// Parses the variable `name`, which must be set.
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
    fn added_values_replace_variables_of_the_same_name() {
        let environment = Environment::of(&[("KEPT", "1"), ("REPLACED", "2")]);
        let environment = environment.with(BTreeMap::from([("REPLACED".into(), "3".into())]));
        assert_eq!(environment.required("KEPT", "1", str::parse::<u8>), Ok(1));
        assert_eq!(environment.required("REPLACED", "1", str::parse::<u8>), Ok(3));
    }

    #[test]
    fn an_optional_variable_is_none_if_it_is_unset_or_empty() {
        let environment = Environment::of(&[("SET", "7"), ("EMPTY", ""), ("BAD", "x")]);
        assert_eq!(environment.parse_optional("SET", "1", str::parse::<u8>), Ok(Some(7)));
        assert_eq!(environment.parse_optional("EMPTY", "1", str::parse::<u8>), Ok(None));
        assert_eq!(environment.parse_optional("UNSET", "1", str::parse::<u8>), Ok(None));
        assert!(environment.parse_optional("BAD", "1", str::parse::<u8>).is_err());
    }

    #[test]
    fn a_required_variable_that_is_unset_is_an_error_with_an_example() {
        let environment = Environment::of(&[("SET", "7"), ("EMPTY", "")]);
        assert_eq!(environment.required("SET", "1", str::parse::<u8>), Ok(7));
        let error = environment.required("EMPTY", "1", str::parse::<u8>).unwrap_err();
        assert_eq!(error.to_string(), "environment variable EMPTY: it is not set; set it like EMPTY=1");
    }

    #[test]
    fn an_error_of_a_variable_with_an_empty_default_gives_an_example() {
        let environment = Environment::of(&[("COLUMNS", "a,a")]);
        let twice = |_: &str| Err::<(), _>("a column is named twice");
        let error = environment.parse_or("COLUMNS", "", "id,name", twice).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable COLUMNS: a column is named twice; set it like COLUMNS=id,name"
        );
    }

    #[test]
    fn an_error_names_the_variable_and_gives_an_example() {
        let error = Environment::of(&[("SIZE", "big")]).parse("SIZE", "10", str::parse::<u8>).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable SIZE: invalid digit found in string; set it like SIZE=10"
        );
    }
}
