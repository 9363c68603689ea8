use super::*;
use crate::event::Origin;
use crate::invocation_record::{Condition, History};

#[tokio::test]
async fn a_file_has_one_line_for_each_invocation_record() {
    let mut dead_letters = DeadLetters::File(tempfile::tempfile().unwrap());
    let origin = Origin::new("t", "b");
    let record =
        InvocationRecord::new(&origin, "f", &[], Condition::RecordAgeExceeded, History::default()).unwrap();
    dead_letters.keep(&record).await.unwrap();
    dead_letters.keep(&record).await.unwrap();

    let DeadLetters::File(mut file) = dead_letters else { panic!("it was a file") };
    io::Seek::rewind(&mut file).unwrap();
    let text = io::read_to_string(file).unwrap();
    assert_eq!(text, format!("{0}\n{0}\n", serde_json::to_string(&record).unwrap()));
}
