//! The query of `GET /jobs`.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use postern_jobs::{Cursor, Filter, State};

use crate::problem::Problem;

/// The most jobs of a page, and the number without `limit`.
const LARGEST_PAGE: u8 = 100;
const PAGE: u8 = 50;

/// The query of a list.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: u8,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self { filter: Filter::default(), after: None, limit: PAGE };
        for (name, value) in pairs(query)? {
            match name.as_str() {
                "state" => parsed.filter.state = Some(state(&value)?),
                "from" => parsed.filter.from = Some(time("from", &value)?),
                "to" => parsed.filter.to = Some(time("to", &value)?),
                "limit" => parsed.limit = limit(&value)?,
                "cursor" => {
                    parsed.after = Some(Cursor::parse(&value).map_err(|_| Problem::InvalidCursor)?);
                }
                _ => return Err(unknown(&name)),
            }
        }

        Ok(parsed)
    }
}

/// The parameters of a query, decoded. A parameter that is there twice has no meaning.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let text = percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned);
        text.map_err(|_| Problem::InvalidRequest("the query is not UTF-8".into()))
    };

    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name)?;

        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(Problem::InvalidRequest(format!("the parameter {name:?} is there twice")));
        }
        pairs.push((name, decoded(value)?));
    }

    Ok(pairs)
}

/// The problem of a parameter that a path does not have.
pub(crate) fn unknown(name: &str) -> Problem {
    Problem::InvalidRequest(format!("there is no parameter {name:?}"))
}

fn state(value: &str) -> Result<State, Problem> {
    value.parse().map_err(Problem::InvalidRequest)
}

fn time(name: &str, value: &str) -> Result<Timestamp, Problem> {
    value.parse().map_err(|_| {
        let example = "2026-11-24T22:51:14.123Z";
        Problem::InvalidRequest(format!("{name} must be a time as in RFC 3339, such as {example}"))
    })
}

fn limit(value: &str) -> Result<u8, Problem> {
    let limit = value.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));

    limit.ok_or_else(|| {
        Problem::InvalidRequest(format!("limit must be a whole number from 1 to {LARGEST_PAGE}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_has_filters_and_a_limit() {
        let query = Query::parse("state=FAILED&from=2026-11-24T22%3A00%3A00%2B01:00&limit=7").unwrap();
        assert_eq!((query.filter.state, query.limit), (Some(State::Failed), 7));
        assert_eq!(query.filter.from, Some("2026-11-24T21:00:00Z".parse().unwrap()));
        assert_eq!(Query::parse("").unwrap().limit, PAGE);
    }

    #[test]
    fn an_invalid_query_is_refused() {
        for query in [
            "limit=0",
            "limit=101",
            "limit=1000000",
            "limit=-1",
            "limit=",
            "state=failed",
            "from=yesterday",
            "to=2026-13-01T00:00:00Z",
            "limit=1&limit=2",
            "tenant=tenant2",
            "state=%ff",
        ] {
            assert!(matches!(Query::parse(query), Err(Problem::InvalidRequest(_))), "{query}");
        }
        for cursor in ["", "%7B%7D", "YQ", "MjAyNi0xMS0yNFQyMjo1MToxNC4xMjNaIGtleSNh"] {
            let query = Query::parse(&format!("cursor={cursor}"));
            assert_eq!(query.unwrap_err(), Problem::InvalidCursor, "{cursor}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in ".{0,200}") {
            drop(Query::parse(&query));
        }
    }
}
