use proptest::prelude::*;

use super::Dialect::{Mysql, Postgres, Sqlite};
use super::*;

const ALL: [Dialect; 3] = [Postgres, Mysql, Sqlite];

fn text(statement: &str, dialect: Dialect) -> String {
    parse(statement, dialect).unwrap().text
}

#[test]
fn each_database_gets_its_own_placeholders() {
    let statement = "select * from t where a = :a and b = :b or a > :a;";
    for (dialect, expected, order) in [
        (Postgres, "select * from t where a = $1 and b = $2 or a > $1", vec![0, 1]),
        (Sqlite, "select * from t where a = ?1 and b = ?2 or a > ?1", vec![0, 1]),
        (Mysql, "select * from t where a = ? and b = ? or a > ?", vec![0, 1, 0]),
    ] {
        let parsed = parse(statement, dialect).unwrap();
        assert_eq!((parsed.text.as_str(), parsed.order), (expected, order));
        assert_eq!(parsed.names, ["a", "b"]);
    }
}

#[test]
fn nothing_in_quotes_or_comments_is_a_parameter() {
    for (dialect, statement) in [
        (Postgres, "select ':a', \":a\", $$:a$$, $x$ :a $$ $x$, E'\\':a', 'it''s :a', a::text -- :a"),
        (Postgres, "select /* /* :a */ :a */ 1, x'00', te'x' -- '"),
        (Postgres, "select a[1:2], b ? 'c', '\\' from t"),
        (Mysql, "select ':a', \":a\\\" :a\", `:a`, 'it\\'s :a', @x := 1 # :a"),
        (Mysql, "select 1 -- :a\n /* :a /* */"),
        (Sqlite, "select ':a', \":a\", [:a], `:a`, '\\' -- :a"),
    ] {
        let parsed = parse(statement, dialect).unwrap();
        assert!(parsed.names.is_empty(), "{statement}: {:?}", parsed.names);
        assert_eq!(parsed.text, statement);
    }
    assert_eq!(text("select '\\' || :a", Postgres), "select '\\' || $1");
    assert_eq!(text("select 1--:a", Mysql), "select 1--?");
}

#[test]
fn a_statement_with_positional_parameters_or_a_second_statement_is_refused() {
    for (dialect, statement) in [
        (Postgres, "select $1"),
        (Mysql, "select ?"),
        (Sqlite, "select ?1"),
        (Sqlite, "select @a"),
        (Sqlite, "select $a"),
        (Mysql, "select /*! 1 */"),
        (Mysql, "select /*M!100100 1 */"),
        (Postgres, "select 1; drop table t"),
        (Postgres, "select 'a"),
        (Postgres, "select /* /* */"),
        (Postgres, "select $a$ x"),
        (Sqlite, "select [a"),
        (Sqlite, " \n"),
    ] {
        assert!(parse(statement, dialect).is_err(), "{statement}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(statement in r#"([:;?$@'"`\[\]/*#\\a-c1é \n-]|--|/\*|\*/){0,40}"#) {
        for dialect in ALL {
            let _ = parse(&statement, dialect);
        }
    }

    #[test]
    fn a_statement_without_signs_stays_as_it_is(statement in "[a-zA-Z0-9_ ,.()=<>+é\n]{1,60}x") {
        for dialect in ALL {
            let parsed = parse(&statement, dialect).unwrap();
            prop_assert_eq!((&parsed.text, parsed.names.len()), (&statement, 0));
        }
    }

    #[test]
    fn a_quoted_text_never_has_a_parameter(content in "[^'\\\\\0]{0,20}") {
        for dialect in ALL {
            let parsed = parse(&format!("select '{content}'"), dialect).unwrap();
            prop_assert!(parsed.names.is_empty());
        }
    }
}
