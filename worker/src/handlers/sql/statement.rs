//! The statement of a section: its named parameters, found outside of strings, quoted names and comments, and replaced
//! by the placeholders of the database.
//!
//! A value never becomes part of the statement's text. The database gets both apart.

/// What differs between the databases in the text of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Mysql,
    Sqlite,
}

/// A statement that is ready to be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The text, with the placeholders of the database.
    pub(super) text: String,
    /// The names of the parameters, each once.
    pub(super) names: Vec<String>,
    /// The parameter of each placeholder, as an index into `names`. MySQL counts placeholders, the others parameters.
    pub(super) order: Vec<usize>,
}

/// Parses the text of a configuration. The error says what is wrong with it.
pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Statement, String> {
    let mut parser = Parser {
        rest: text,
        dialect,
        result: Statement { text: String::new(), names: Vec::new(), order: Vec::new() },
    };
    while !parser.rest.is_empty() {
        parser.step()?;
    }

    if parser.result.text.trim().is_empty() {
        return Err("it is empty".into());
    }
    if dialect != Dialect::Mysql {
        parser.result.order = (0..parser.result.names.len()).collect();
    }
    Ok(parser.result)
}

struct Parser<'a> {
    rest: &'a str,
    dialect: Dialect,
    result: Statement,
}

impl Parser<'_> {
    /// Takes a token: something quoted, a comment, a parameter or a character.
    fn step(&mut self) -> Result<(), String> {
        let first = self.rest.chars().next().unwrap_or_default();
        if let Some(length) = self.opaque()? {
            return self.copy(length);
        }
        match first {
            // `::` is a cast of PostgreSQL, `:=` an assignment of MySQL.
            ':' if self.rest.starts_with("::") || self.rest.starts_with(":=") => self.copy(2),
            ':' => self.parameter(),
            '?' if self.dialect != Dialect::Postgres => Err(positional("?")),
            '$' if self.dialect != Dialect::Mysql && self.follows(|next| next.is_ascii_alphanumeric()) => {
                Err(positional("$"))
            }
            '@' if self.dialect == Dialect::Sqlite => Err(positional("@")),
            ';' => self.end(),
            _ if is_word(first) => self.copy(self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len())),
            _ => self.copy(first.len_utf8()),
        }
    }

    /// The length of a string, a quoted name or a comment, in which nothing is a parameter.
    fn opaque(&self) -> Result<Option<usize>, String> {
        let (rest, mysql) = (self.rest, self.dialect == Dialect::Mysql);
        let postgres = self.dialect == Dialect::Postgres;
        let escape_string =
            postgres && rest.starts_with(['e', 'E']) && rest[1..].starts_with('\'') && self.begins_word();
        if escape_string {
            return quoted(&rest[1..], '\'', true).map(|length| Some(length + 1));
        }

        match rest.as_bytes()[0] {
            b'\'' => quoted(rest, '\'', mysql).map(Some),
            b'"' => quoted(rest, '"', mysql).map(Some),
            b'`' if !postgres => quoted(rest, '`', false).map(Some),
            b'[' if self.dialect == Dialect::Sqlite => {
                rest.find(']').map(|end| Some(end + 1)).ok_or_else(|| unended("["))
            }
            b'$' if postgres => dollar_quoted(rest),
            b'#' if mysql => Ok(Some(line(rest))),
            // MySQL reads `--1` as two signs.
            b'-' if rest.starts_with("--") && (!mysql || rest[2..].starts_with(char::is_whitespace)) => {
                Ok(Some(line(rest)))
            }
            // MySQL executes the text of such a comment.
            b'/' if mysql && (rest.starts_with("/*!") || rest.starts_with("/*M!")) => {
                Err("/*! and /*M! comments contain statements; write the statement itself".into())
            }
            b'/' if rest.starts_with("/*") => comment(rest, postgres).map(Some),
            _ => Ok(None),
        }
    }

    fn parameter(&mut self) -> Result<(), String> {
        let after = &self.rest[1..];
        let length = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let name = &after[..length];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            // A slice of an array of PostgreSQL, `a[1:2]`, or what the database refuses.
            return self.copy(1);
        }

        let known = self.result.names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.result.names.push(name.to_owned());
            self.result.names.len() - 1
        });
        self.result.order.push(index);
        match self.dialect {
            Dialect::Postgres => self.result.text.push_str(&format!("${}", index + 1)),
            Dialect::Sqlite => self.result.text.push_str(&format!("?{}", index + 1)),
            Dialect::Mysql => self.result.text.push('?'),
        }
        self.rest = &after[length..];
        Ok(())
    }

    /// A semicolon may end the statement. What follows may only be white space.
    fn end(&mut self) -> Result<(), String> {
        if self.rest[1..].trim().is_empty() {
            self.rest = "";
            Ok(())
        } else {
            Err("it must be one statement; a semicolon can only end it".into())
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "a step of the scanner, like those that can fail")]
    fn copy(&mut self, length: usize) -> Result<(), String> {
        let (copied, rest) = self.rest.split_at(length);
        self.result.text.push_str(copied);
        self.rest = rest;
        Ok(())
    }

    fn follows(&self, what: impl Fn(char) -> bool) -> bool {
        self.rest[1..].starts_with(what)
    }

    /// Whether no word ends where the rest begins.
    fn begins_word(&self) -> bool {
        !self.result.text.ends_with(is_word)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn positional(sign: &str) -> String {
    format!("it has a parameter that begins with {sign}; parameters are named, such as :day")
}

fn unended(what: &str) -> String {
    format!("something that begins with {what} has no end")
}

/// The length of a quoted text. A quote in it is doubled, or follows a backslash where that counts.
fn quoted(text: &str, quote: char, backslash: bool) -> Result<usize, String> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if backslash && character == '\\' {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Ok(at + quote.len_utf8());
        }
    }
    Err(unended(&quote.to_string()))
}

/// The length of `$tag$…$tag$`, if that is what the text begins with.
fn dollar_quoted(text: &str) -> Result<Option<usize>, String> {
    let Some(end) = text[1..].find('$').map(|end| end + 2) else { return Ok(None) };
    let tag = &text[..end];
    let name = &tag[1..end - 1];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_word) {
        return Ok(None);
    }
    let length = text[end..].find(tag).map(|at| at + 2 * end);
    length.map(Some).ok_or_else(|| unended(tag))
}

fn line(text: &str) -> usize {
    text.find('\n').map_or(text.len(), |end| end + 1)
}

/// The length of a comment. PostgreSQL nests comments.
fn comment(text: &str, nests: bool) -> Result<usize, String> {
    let (mut depth, mut at) = (1, 2);
    while let Some(found) = text[at..].find(['*', '/']) {
        at += found;
        if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else if nests && text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(unended("/*"))
}

#[cfg(test)]
mod tests;
