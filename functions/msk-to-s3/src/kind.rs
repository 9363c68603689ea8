//! The types that a column can be declared to have.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;

/// The type of a column. `CSV_COLUMNS` declares it; a column without a declaration is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number of 64 bits.
    Int64,
    /// A finite floating point number of 64 bits.
    Float64,
    /// `true` or `false`.
    Bool,
    /// A date such as `2026-01-31`.
    Date,
    /// A point in time with its offset from UTC, such as `2026-01-31T12:00:00Z`.
    Timestamp,
    /// A decimal number with at most `precision` digits, `scale` of them after the point.
    Decimal {
        /// The number of digits, at most 18.
        precision: u8,
        /// The number of digits after the point.
        scale: u8,
    },
}

/// A value of a type other than text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Typed {
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// The days since 1970-01-01.
    Days(i32),
    /// The microseconds since 1970.
    Microseconds(i64),
    /// A decimal number without its point: 5.25 with a scale of 2 is 525.
    Unscaled(i64),
}

/// The most digits of a decimal number that always fit into 64 bits.
const MAX_PRECISION: u8 = 18;

impl Kind {
    /// Reads a value of this type. `None`: the text is not one. Text has no typed value: use it as it is.
    pub fn read(self, text: &str) -> Option<Typed> {
        match self {
            Self::Text => None,
            Self::Int64 => text.parse().ok().map(Typed::Int),
            Self::Float64 => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Typed::Float),
            Self::Bool => text.parse().ok().map(Typed::Bool),
            Self::Date => {
                let days =
                    text.parse::<Date>().ok()?.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
                i32::try_from(days).ok().map(Typed::Days)
            }
            Self::Timestamp => Some(Typed::Microseconds(text.parse::<Timestamp>().ok()?.as_microsecond())),
            Self::Decimal { precision, scale } => unscaled(text, precision, scale).map(Typed::Unscaled),
        }
    }

    /// Whether the text is a value of this type.
    pub fn accepts(self, text: &str) -> bool {
        self == Self::Text || self.read(text).is_some()
    }
}

/// Reads a decimal number as a whole number of its smallest unit. Digits beyond the scale must be zeros.
fn unscaled(text: &str, precision: u8, scale: u8) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || digits.ends_with('.') {
        return None;
    }

    let (kept, rest) = fraction.split_at(fraction.len().min(scale.into()));
    let whole = whole.trim_start_matches('0');
    if rest.bytes().any(|byte| byte != b'0') || whole.len() > usize::from(precision - scale) {
        return None;
    }

    let number: i64 = format!("0{whole}{kept:0<width$}", width = usize::from(scale)).parse().ok()?;
    Some(if negative { -number } else { number })
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "a type must be text, int64, float64, bool, date, timestamp or decimal(P,S), \
                               with P from 1 to 18 and S not above P";

        Ok(match text {
            "text" => Self::Text,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "bool" => Self::Bool,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            _ => {
                let digits =
                    text.strip_prefix("decimal(").and_then(|text| text.strip_suffix(')')).ok_or(PROBLEM)?;
                let (precision, scale) = digits.split_once(',').ok_or(PROBLEM)?;
                let precision = precision.trim().parse().map_err(|_| PROBLEM)?;
                let scale = scale.trim().parse().map_err(|_| PROBLEM)?;
                if !(1..=MAX_PRECISION).contains(&precision) || scale > precision {
                    return Err(PROBLEM);
                }
                Self::Decimal { precision, scale }
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Text => "text",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Decimal { precision, scale } => return write!(formatter, "decimal({precision},{scale})"),
        };
        formatter.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONEY: Kind = Kind::Decimal { precision: 6, scale: 2 };

    #[test]
    fn each_type_accepts_its_values_and_no_others() {
        for (kind, value, typed) in [
            (Kind::Int64, "-9223372036854775808", Some(Typed::Int(i64::MIN))),
            (Kind::Int64, "9223372036854775808", None),
            (Kind::Int64, "5.0", None),
            (Kind::Float64, "1e3", Some(Typed::Float(1_000.0))),
            (Kind::Float64, "inf", None),
            (Kind::Bool, "true", Some(Typed::Bool(true))),
            (Kind::Bool, "1", None),
            (Kind::Date, "1969-12-31", Some(Typed::Days(-1))),
            (Kind::Date, "2026-02-30", None),
            (Kind::Timestamp, "1970-01-01T01:00:00.000001+01:00", Some(Typed::Microseconds(1))),
            (Kind::Timestamp, "2026-01-01", None),
            (MONEY, "-12.5", Some(Typed::Unscaled(-1_250))),
            (MONEY, "1234.560", Some(Typed::Unscaled(123_456))),
            (MONEY, "12345.6", None),
            (MONEY, "1.234", None),
            (MONEY, "1.", None),
            (MONEY, "", None),
            (MONEY, "1e2", None),
        ] {
            assert_eq!(kind.read(value), typed, "{kind} {value}");
        }
    }

    #[test]
    fn a_types_name_is_what_declares_it() {
        for name in ["text", "int64", "float64", "bool", "date", "timestamp", "decimal(18,0)", "decimal(6,6)"]
        {
            assert_eq!(name.parse::<Kind>().unwrap().to_string(), name);
        }
        for wrong in ["", "int", "decimal", "decimal(19,2)", "decimal(2,3)", "decimal(0,0)"] {
            assert!(wrong.parse::<Kind>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_keeps_every_digit(number in -999_999_i64..1_000_000) {
            let sign = if number < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}", number.abs() / 100, number.abs() % 100);
            prop_assert_eq!(MONEY.read(&text), Some(Typed::Unscaled(number)));
        }
    }
}
