//! Generates customers from a seed. A seed gives the same customers on every machine; their fields contain all kinds of
//! text that CSV must quote or escape.

use serde_json::Value;

/// Pseudo-random numbers from a seed (`SplitMix64`). They are good enough for test data and the same on every machine.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, reduced to the range below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    fn one_of(&mut self, list: &[&'static str]) -> &'static str {
        let at = self.below(list.len() as u64);
        usize::try_from(at).ok().and_then(|at| list.get(at)).copied().unwrap_or_default()
    }
}

/// The names of a customer's fields.
pub const COLUMNS: [&str; 7] = ["id", "name", "email", "city", "balance", "since", "note"];

/// A customer: its fields in the order of [`COLUMNS`]. The balance is written as in JSON and CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer(pub [String; 7]);

const FIRST: [&str; 12] =
    ["Ana", "Zoë", "Jörg", "Noé", "Søren", "Łucja", "José", "Björk", "Chloë", "İpek", "Дарья", "美咲"];
const LAST: [&str; 10] =
    ["Lima", "Krause", "O'Neill", "Nuñez", "Müller, Jr.", "da Conceição", "Ångström", "Smith", "Żak", "佐藤"];
const CITIES: [&str; 8] =
    ["Lisboa", "Köln", "São Paulo", "Gent", "Kraków", "Reykjavík", "Washington, DC", "Saint-Étienne"];
const NOTES: [&str; 12] = [
    "",
    "regular",
    "prefers e-mail",
    "says \"call me\"",
    "two lines\nof text",
    "carriage\r\nreturn",
    "\"quoted\", with a comma",
    "tab\there",
    "trailing space ",
    "=1+1",
    "back\\slash",
    "emoji 😀",
];

/// The endless sequence of a seed's customers.
pub fn customers(seed: u64) -> impl Iterator<Item = Customer> {
    let mut numbers = Numbers::new(seed);
    (0_u64..).map(move |number| {
        let (first, last) = (numbers.one_of(&FIRST), numbers.one_of(&LAST));
        let cents = numbers.below(1_000_000);
        let sign = if numbers.below(8) == 0 { "-" } else { "" };
        let (year, month, day) = (2005 + numbers.below(20), 1 + numbers.below(12), 1 + numbers.below(28));

        Customer([
            format!("C-{number:07}"),
            format!("{first} {last}"),
            format!("customer{number}@example.com"),
            numbers.one_of(&CITIES).to_owned(),
            format!("{sign}{}.{:02}", cents / 100, cents % 100),
            format!("{year}-{month:02}-{day:02}"),
            numbers.one_of(&NOTES).to_owned(),
        ])
    })
}

impl Customer {
    /// The customer's id, the key of its record.
    pub fn id(&self) -> &str {
        &self.0[0]
    }

    /// The customer as a JSON object, in which the balance is a number with its trailing zeros.
    pub fn json(&self) -> String {
        let member = |(name, field): (&&str, &String)| {
            let quoted = || Value::from(field.as_str()).to_string();
            format!("\"{name}\":{}", if *name == "balance" { field.clone() } else { quoted() })
        };
        format!("{{{}}}", COLUMNS.iter().zip(&self.0).map(member).collect::<Vec<_>>().join(","))
    }

    /// The customer as a CSV line. Line breaks become spaces, because a record holds one line.
    pub fn line(&self) -> String {
        let field = |field: &String| {
            let field = field.replace(['\r', '\n'], " ");
            if field.contains(['"', ',']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
        };
        self.0.iter().map(field).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_customers() {
        let file: Vec<Customer> = customers(42).take(3_000).collect();
        assert_eq!(file, customers(42).take(3_000).collect::<Vec<_>>());
        assert_ne!(file[..10], customers(43).take(10).collect::<Vec<_>>());
        for awkward in ["\"", ",", "\n", "\r\n", "é", "ë", "佐"] {
            assert!(
                file.iter().any(|customer| customer.0.iter().any(|field| field.contains(awkward))),
                "{awkward:?}"
            );
        }
    }

    #[test]
    fn json_and_csv_have_the_same_fields() {
        for customer in customers(7).take(200) {
            let json: Value = serde_json::from_str(&customer.json()).unwrap();
            assert_eq!(json["note"], customer.0[6].as_str());

            let line = customer.line();
            let mut parser = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());

            let row = parser.records().next().unwrap().unwrap();
            assert_eq!(&row[1], customer.0[1]);
            assert_eq!(row.len(), COLUMNS.len());
        }
    }
}
