//! The handler `add`: the AWS sample's job.

use postern_types::TaskFailure;
use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use crate::handler::{Handler, JobContext, Policy};

/// Adds two numbers, like the AWS sample's job: the input `{"a": 15, "b": 42}` gives the result `57`.
///
/// Whole numbers of 64 bits (`i64` and `u64`) are added exactly. If either number has a fraction, both are added
/// as IEEE 754 doubles. An input that is not a number fails with `Add.NotANumber`. A number or a sum that does
/// not fit into 64 bits fails with `Add.OutOfRange`.
pub struct Add;

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    a: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a RawValue>,
}

impl Handler for Add {
    type Output = Number;

    /// A sum has no effect: it may be computed twice.
    fn policy(&self) -> Policy {
        Policy::Idempotent
    }

    async fn run(&self, job: JobContext) -> Result<Number, TaskFailure> {
        let not_an_object =
            || TaskFailure::new(NOT_A_NUMBER, "the input must be an object {\"a\": 15, \"b\": 42}");
        if !job.raw_input().get().starts_with('{') {
            return Err(not_an_object());
        }
        let input: Input<'_> = job.input().map_err(|_| not_an_object())?;
        add(summand("a", input.a)?, summand("b", input.b)?)
    }
}

const NOT_A_NUMBER: &str = "Add.NotANumber";
const OUT_OF_RANGE: &str = "Add.OutOfRange";

#[derive(Clone, Copy)]
enum Summand {
    Whole(i128),
    Fraction(f64),
}

fn summand(name: &str, value: Option<&RawValue>) -> Result<Summand, TaskFailure> {
    let text = value.map_or("null", RawValue::get);
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(TaskFailure::new(NOT_A_NUMBER, format!("{name} must be a number, such as 15")));
    }
    let out_of_range = || TaskFailure::new(OUT_OF_RANGE, format!("{name} does not fit into 64 bits"));
    if text.contains(['.', 'e', 'E']) {
        let fraction = text.parse::<f64>().ok().filter(|number| number.is_finite());
        return fraction.map(Summand::Fraction).ok_or_else(out_of_range);
    }
    text.parse::<i128>().ok().filter(fits).map(Summand::Whole).ok_or_else(out_of_range)
}

/// Whether the number fits into an `i64` or a `u64`.
fn fits(number: &i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(number)
}

fn add(a: Summand, b: Summand) -> Result<Number, TaskFailure> {
    let sum = match (a, b) {
        (Summand::Whole(a), Summand::Whole(b)) => Some(a + b).filter(fits).and_then(Number::from_i128),
        (a, b) => Number::from_f64(a.double() + b.double()),
    };
    sum.ok_or_else(|| TaskFailure::new(OUT_OF_RANGE, "the sum does not fit into 64 bits"))
}

impl Summand {
    #[expect(clippy::cast_precision_loss, reason = "a sum with a fraction is a sum of doubles")]
    fn double(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Fraction(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postern_types::JobMessage;
    use proptest::prelude::*;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn sum(input: &str) -> Result<String, TaskFailure> {
        let job = JobMessage::parse(format!(r#"{{"TaskToken":"t","Input":{input}}}"#).as_bytes()).unwrap();
        let run = Add.run(JobContext::of(Arc::new(job), CancellationToken::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run).map(|number| number.to_string())
    }

    #[test]
    fn whole_numbers_add_exactly() {
        assert_eq!(sum(r#"{"a":15,"b":42}"#).unwrap(), "57");
        assert_eq!(sum(r#"{"a":-9223372036854775808,"b":0}"#).unwrap(), "-9223372036854775808");
        assert_eq!(sum(r#"{"a":18446744073709551615,"b":0,"c":"ignored"}"#).unwrap(), "18446744073709551615");
        assert_eq!(sum(r#"{"a":18446744073709551615,"b":-1}"#).unwrap(), "18446744073709551614");
    }

    #[test]
    fn fractions_add_as_doubles() {
        assert_eq!(sum(r#"{"a":1.5,"b":2}"#).unwrap(), "3.5");
        assert_eq!(sum(r#"{"a":0.1,"b":0.2}"#).unwrap(), "0.30000000000000004");
        assert_eq!(sum(r#"{"a":1e2,"b":1}"#).unwrap(), "101.0");
    }

    #[test]
    fn an_input_that_is_not_a_number_is_named_in_the_failure() {
        for input in [
            "7",
            "null",
            "[1,2]",
            r#"{"a":1}"#,
            r#"{"a":"1","b":2}"#,
            r#"{"a":true,"b":2}"#,
            r#"{"a":null,"b":2}"#,
        ] {
            assert_eq!(sum(input).unwrap_err().error(), NOT_A_NUMBER, "{input}");
        }
        assert!(sum(r#"{"a":1,"b":[]}"#).unwrap_err().cause().starts_with("b must be a number"));
    }

    #[test]
    fn a_number_that_does_not_fit_into_64_bits_is_out_of_range() {
        for input in [
            r#"{"a":18446744073709551616,"b":0}"#,
            r#"{"a":-9223372036854775809,"b":0}"#,
            r#"{"a":18446744073709551615,"b":1}"#,
            r#"{"a":99999999999999999999999999999999999999999999,"b":1}"#,
            r#"{"a":1e400,"b":1}"#,
            r#"{"a":1.7e308,"b":1.7e308}"#,
        ] {
            assert_eq!(sum(input).unwrap_err().error(), OUT_OF_RANGE, "{input}");
        }
    }

    proptest! {
        #[test]
        fn the_sum_of_two_integers_is_exact(a: i64, b: i64) {
            let exact = i128::from(a) + i128::from(b);
            let got = sum(&format!(r#"{{"a":{a},"b":{b}}}"#));
            if fits(&exact) {
                prop_assert_eq!(got.unwrap(), exact.to_string());
            } else {
                let failure = got.unwrap_err();
                prop_assert_eq!(failure.error(), OUT_OF_RANGE);
            }
        }
    }
}
