//! Values of MySQL and MariaDB.

use mysql_async::consts::ColumnType;
use mysql_async::{Column, Value};

use crate::handlers::input::Argument;
use crate::handlers::sql::cell::Cell;

/// The number of the character set `binary`: bytes that are not text.
const BINARY: u16 = 63;

/// A parameter. A number with a fraction goes as text, which a DECIMAL takes exactly.
pub(super) fn parameter(argument: &Argument) -> Value {
    match argument {
        Argument::Null => Value::NULL,
        Argument::Bool(value) => Value::Int((*value).into()),
        Argument::Number(text) => whole(text).unwrap_or_else(|| Value::Bytes(text.clone().into_bytes())),
        Argument::Text(text) | Argument::Json(text) => Value::Bytes(text.clone().into_bytes()),
    }
}

fn whole(text: &str) -> Option<Value> {
    text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::UInt)).ok()
}

/// The cell of a column.
pub(super) fn cell(column: &Column, value: Value) -> Cell {
    match value {
        Value::NULL => Cell::Null,
        Value::Int(number) => Cell::Integer(number),
        Value::UInt(number) => Cell::Unsigned(number),
        Value::Float(number) => Cell::Single(number),
        Value::Double(number) => Cell::Float(number),
        Value::Bytes(bytes) => text(column, bytes),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            let time = format!("{hour:02}:{minute:02}:{second:02}{}", fraction(micros));
            Cell::Text(match column.column_type() {
                ColumnType::MYSQL_TYPE_DATE => date,
                // The session is in UTC.
                ColumnType::MYSQL_TYPE_TIMESTAMP => format!("{date}T{time}Z"),
                _ => format!("{date}T{time}"),
            })
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let (sign, hours) = (if negative { "-" } else { "" }, days * 24 + u32::from(hours));
            Cell::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros)))
        }
    }
}

fn text(column: &Column, bytes: Vec<u8>) -> Cell {
    let is_decimal =
        matches!(column.column_type(), ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL);
    let is_json = column.column_type() == ColumnType::MYSQL_TYPE_JSON;
    if column.character_set() == BINARY && !is_decimal && !is_json {
        return Cell::Bytes(bytes);
    }

    match String::from_utf8(bytes) {
        Ok(text) if is_json => Cell::Json(text),
        Ok(text) => Cell::Text(text),
        Err(binary) => Cell::Bytes(binary.into_bytes()),
    }
}

/// `.5`, or nothing.
fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}").trim_end_matches('0').to_owned() }
}
