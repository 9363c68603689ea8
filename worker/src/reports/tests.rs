use proptest::prelude::*;
use serde_json::{Value, json};

use super::lines::LINE_CHARS;
use super::value::DATA_BYTES;
use super::*;

fn id(number: usize) -> JobId {
    JobId::parse(format!("{number:032x}")).unwrap()
}

fn reporter(reports: &Arc<Reports>, number: usize) -> Reporter {
    Reporter::new(Arc::clone(reports), id(number), true)
}

/// What the next message says, as JSON; an empty list if there is none.
fn taken(reports: &Reports) -> Vec<Value> {
    let Some(message) = reports.take(Timestamp::UNIX_EPOCH) else { return Vec::new() };
    let bytes = message.bytes();
    assert!(bytes.len() <= MESSAGE_BYTES, "{} bytes", bytes.len());
    let message: Value = serde_json::from_slice(&bytes).unwrap();
    message["Jobs"].as_array().unwrap().clone()
}

#[test]
fn the_last_progress_wins_and_log_lines_are_collected() {
    let reports = Arc::new(Reports::default());
    let job = reporter(&reports, 1);
    for percent in 0..=70 {
        job.progress(&percent);
    }
    job.log("first\r\nsecond\n\u{1b}[31mred\u{1b}[0m");
    let messages = taken(&reports);
    assert_eq!(
        messages,
        [
            json!({"JobId": id(1), "Percent": 70.0, "Data": 70, "Log": ["first", "second", "\u{1b}[31mred\u{1b}[0m"],
            "At": "1970-01-01T00:00:00.000Z"})
        ]
    );
    assert!(taken(&reports).is_empty(), "nothing is reported twice");
}

#[test]
fn a_number_is_a_percentage_a_string_a_message_and_an_object_may_have_both() {
    for (value, percent, message) in [
        (json!(42.5), json!(42.5), Value::Null),
        (json!(-1), json!(0.0), Value::Null),
        (json!(1e300), json!(100.0), Value::Null),
        (json!("copying"), Value::Null, json!("copying")),
        (json!({"percent": 7, "message": "row 7", "row": 7}), json!(7.0), json!("row 7")),
        (json!({"Percent": 7, "Message": "row 7"}), json!(7.0), json!("row 7")),
        (json!({"percent": "7", "message": 7}), Value::Null, Value::Null),
        (json!([1, 2]), Value::Null, Value::Null),
        (Value::Null, Value::Null, Value::Null),
    ] {
        let reports = Arc::new(Reports::default());
        reporter(&reports, 1).progress(&value);
        let job = &taken(&reports)[0];
        assert_eq!((&job["Percent"], &job["Message"], &job["Data"]), (&percent, &message, &value), "{value}");
    }
}

#[test]
fn a_progress_that_no_message_could_carry_is_left_out() {
    let reports = Arc::new(Reports::default());
    let job = reporter(&reports, 1);
    job.progress(&"x".repeat(DATA_BYTES));
    job.progress(&std::collections::BTreeMap::from([((1, 2), 3)]));
    assert!(taken(&reports).is_empty());
    assert!(reports.take_to_keep().is_empty());
}

#[test]
fn the_oldest_lines_go_and_a_line_says_how_many() {
    let reports = Arc::new(Reports::default());
    let job = reporter(&reports, 1);
    for line in 0..1_000 {
        job.log(&format!("line {line}"));
    }
    let log = taken(&reports)[0]["Log"].as_array().unwrap().clone();
    assert_eq!(log.len(), 201);
    assert!(log[0].as_str().unwrap().contains("800 lines"), "{}", log[0]);
    assert_eq!((&log[1], &log[200]), (&json!("line 800"), &json!("line 999")));

    job.log(&"é".repeat(5_000));
    let line = taken(&reports)[0]["Log"][0].as_str().unwrap().to_owned();
    assert_eq!(line.chars().count(), LINE_CHARS);
}

#[test]
fn what_does_not_fit_into_a_message_comes_with_the_next_ones() {
    let reports = Arc::new(Reports::default());
    for number in 0..20 {
        let job = reporter(&reports, number);
        job.progress(&"x".repeat(20_000));
        // Control characters take six bytes each in JSON.
        job.log(&format!("{}\n", "\u{1}".repeat(900)).repeat(20));
    }

    let mut lines = vec![0; 20];
    let mut seen = Vec::new();
    loop {
        let jobs = taken(&reports);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let number = usize::from_str_radix(job["JobId"].as_str().unwrap(), 16).unwrap();
            lines[number] += job["Log"].as_array().map_or(0, Vec::len);
            seen.extend(job.get("Data").map(|_| number));
        }
    }
    assert_eq!(lines, [20; 20]);
    assert_eq!(seen, (0..20).collect::<Vec<_>>(), "each progress once, those that have waited longest first");
}

#[test]
fn while_nothing_can_be_sent_the_reports_stay_within_a_bound() {
    let reports = Arc::new(Reports::default());
    for number in 0..1_000 {
        reporter(&reports, number).progress(&"x".repeat(20_000));
    }
    assert!(reports.table().bytes <= WAITING_BYTES);
    assert_eq!(taken(&reports)[0]["JobId"], json!(id(1_000 - WAITING_BYTES / 21_002)), "the newest are kept");
}

#[test]
fn the_journal_gets_the_progress_of_jobs_that_may_run_again() {
    let reports = Arc::new(Reports::default());
    reporter(&reports, 1).progress(&1);
    reporter(&reports, 1).progress(&2);
    Reporter::new(Arc::clone(&reports), id(2), false).progress(&3);

    let kept = reports.take_to_keep();
    assert_eq!(kept.iter().map(|(job, data)| (job.clone(), data.get())).collect::<Vec<_>>(), [(id(1), "2")]);
    assert!(reports.take_to_keep().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_within_its_bound_and_no_line_is_lost(
        jobs in proptest::collection::vec((0_usize..30_000, proptest::collection::vec("[a-zé\\x00-\\x1f]{0,60}", 0..8)), 1..12),
    ) {
        let reports = Arc::new(Reports::default());
        let mut expected = 0;
        for (number, (bytes, lines)) in jobs.iter().enumerate() {
            let job = reporter(&reports, number);
            job.progress(&"x".repeat(*bytes));
            for line in lines {
                expected += line.lines().count();
                job.log(line);
            }
        }

        let mut found = 0;
        while let Some(message) = reports.take(Timestamp::UNIX_EPOCH) {
            prop_assert!(message.bytes().len() <= MESSAGE_BYTES);
            found += message.jobs.iter().map(|job| job.log.len()).sum::<usize>();
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(reports.table().bytes, 0);
    }
}
