//! Values of PostgreSQL, from the binary form in which the server sends them.

use std::error::Error;

use jiff::civil::DateTime;
use jiff::{Span, Timestamp};
use postern_types::TaskFailure;
use tokio_postgres::types::{FromSql, Kind, Type};
use tokio_postgres::{Row, Statement};

use crate::handlers::sql::cell::Cell;
use crate::handlers::sql::session::causes;

/// 2000-01-01, the epoch of PostgreSQL.
const EPOCH: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

/// An error if a column of the statement has a type that this module does not read.
pub(super) fn check(statement: &Statement) -> Result<(), TaskFailure> {
    let unread = statement.columns().iter().find(|column| !is_read(column.type_()));
    match unread {
        None => Ok(()),
        Some(column) => Err(TaskFailure::new(
            "Sql.UnsupportedType",
            format!(
                "the column {:?} has the type {}: cast it to text, or to json",
                column.name(),
                column.type_()
            ),
        )),
    }
}

/// The cells of a row.
pub(super) fn cells(row: &Row) -> Result<Vec<Cell>, TaskFailure> {
    let cell = |(index, column): (usize, &tokio_postgres::Column)| {
        row.try_get::<_, Cell>(index).map_err(|error| {
            let cause = format!("the column {:?}: {}", column.name(), causes(&error));
            TaskFailure::new("Sql.UnsupportedType", cause)
        })
    };
    row.columns().iter().enumerate().map(cell).collect()
}

fn is_text(of_type: &Type) -> bool {
    matches!(of_type.kind(), Kind::Enum(_)) || <&str as FromSql>::accepts(of_type)
}

fn is_read(of_type: &Type) -> bool {
    matches!(
        *of_type,
        Type::BOOL
            | Type::INT2
            | Type::INT4
            | Type::INT8
            | Type::OID
            | Type::FLOAT4
            | Type::FLOAT8
            | Type::NUMERIC
            | Type::BYTEA
            | Type::JSON
            | Type::JSONB
            | Type::UUID
            | Type::DATE
            | Type::TIME
            | Type::TIMESTAMP
            | Type::TIMESTAMPTZ
            | Type::VOID
    ) || is_text(of_type)
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(of_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *of_type {
            Type::BOOL => Self::Bool(bool::from_sql(of_type, raw)?),
            Type::INT2 => Self::Integer(i16::from_sql(of_type, raw)?.into()),
            Type::INT4 => Self::Integer(i32::from_sql(of_type, raw)?.into()),
            Type::INT8 => Self::Integer(i64::from_sql(of_type, raw)?),
            Type::OID => Self::Integer(u32::from_sql(of_type, raw)?.into()),
            Type::FLOAT4 => Self::Single(f32::from_sql(of_type, raw)?),
            Type::FLOAT8 => Self::Float(f64::from_sql(of_type, raw)?),
            Type::NUMERIC => Self::Text(numeric(raw).ok_or("it is not a numeric of PostgreSQL")?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            Type::JSON => Self::Json(std::str::from_utf8(raw)?.to_owned()),
            // The first byte is the version of the form.
            Type::JSONB => Self::Json(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_owned()),
            Type::UUID => Self::Text(uuid(raw)),
            Type::DATE => Self::Text(date(i32::from_be_bytes(raw.try_into()?))?),
            Type::TIME => Self::Text(moment(i64::from_be_bytes(raw.try_into()?))?.time().to_string()),
            Type::TIMESTAMP => Self::Text(timestamp(i64::from_be_bytes(raw.try_into()?), false)?),
            Type::TIMESTAMPTZ => Self::Text(timestamp(i64::from_be_bytes(raw.try_into()?), true)?),
            Type::VOID => Self::Null,
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(of_type: &Type) -> bool {
        is_read(of_type)
    }
}

fn date(days: i32) -> Result<String, jiff::Error> {
    match days {
        i32::MAX => Ok("infinity".into()),
        i32::MIN => Ok("-infinity".into()),
        days => Ok(EPOCH.date().checked_add(Span::new().try_days(days)?)?.to_string()),
    }
}

/// RFC 3339, in UTC where the type has a zone.
fn timestamp(microseconds: i64, zoned: bool) -> Result<String, jiff::Error> {
    match microseconds {
        i64::MAX => Ok("infinity".into()),
        i64::MIN => Ok("-infinity".into()),
        _ if zoned => {
            let epoch = EPOCH.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
            let time: Timestamp = epoch.checked_add(jiff::SignedDuration::from_micros(microseconds))?;
            Ok(time.to_string())
        }
        _ => Ok(moment(microseconds)?.to_string()),
    }
}

fn moment(microseconds: i64) -> Result<DateTime, jiff::Error> {
    EPOCH.checked_add(jiff::SignedDuration::from_micros(microseconds))
}

fn uuid(raw: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Four decimal digits at a time, the first of them with the weight 10000 to the power of `weight`; `scale` decimal
/// digits are shown after the point.
fn numeric(raw: &[u8]) -> Option<String> {
    let mut words = raw.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let (count, weight, sign, scale) =
        (words.next()?, words.next()?.cast_signed(), words.next()?, words.next()?);
    let digits: Vec<u16> = words.collect();
    let sign = match sign {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".into()),
        0xD000 => return Some("Infinity".into()),
        0xF000 => return Some("-Infinity".into()),
        _ => return None,
    };
    if digits.len() != usize::from(count) {
        return None;
    }

    let digit = |place: i32| {
        let index = i32::from(weight) - place;
        usize::try_from(index).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let whole: String =
        (0..=i32::from(weight).max(0)).rev().map(|place| format!("{:04}", digit(place))).collect();
    let whole = whole.trim_start_matches('0');
    let groups = i32::from(scale).div_euclid(4) + 1;
    let mut fraction: String = (1..=groups).map(|place| format!("{:04}", digit(-place))).collect();
    fraction.truncate(usize::from(scale));

    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_numeric_keeps_every_digit() {
        for (words, text) in [
            (&[0, 0, 0, 0][..], "0"),
            (&[0, 0, 0, 2], "0.00"),
            (&[2, 0, 0, 2, 9, 5000], "9.50"),
            (&[2, 0, 0x4000, 2, 9, 5000], "-9.50"),
            (&[1, 1, 0, 0, 12], "120000"),
            (&[1, 0xFFFF, 0, 4, 1], "0.0001"),
            (&[1, 0xFFFE, 0, 5, 1000], "0.00001"),
            (&[3, 1, 0, 3, 1, 2345, 6780], "12345.678"),
            (&[0, 0, 0xC000, 0], "NaN"),
        ] {
            assert_eq!(numeric(&bytes(words)).unwrap(), text);
        }
        assert_eq!(numeric(&bytes(&[2, 0, 0, 0, 9])), None);
        assert_eq!(numeric(&[1]), None);
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(date(0).unwrap(), "2000-01-01");
        assert_eq!(date(-1).unwrap(), "1999-12-31");
        assert_eq!(date(i32::MAX).unwrap(), "infinity");
        assert_eq!(timestamp(1_500_000, true).unwrap(), "2000-01-01T00:00:01.5Z");
        assert_eq!(timestamp(-1, false).unwrap(), "1999-12-31T23:59:59.999999");
        assert!(date(i32::MAX - 1).is_err(), "a date that jiff cannot write is an error, not another date");
    }
}
