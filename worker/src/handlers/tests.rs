use super::*;
use crate::add::Add;
use crate::config::handlers as config;

pub(super) mod authority;

fn files(root: &str) -> Section {
    Section::Files(config::Files {
        root: root.into(),
        operations: vec![config::Operation::Read],
        policy: None,
        timeout_seconds: 60,
    })
}

#[test]
fn each_section_becomes_a_handler_of_its_name() {
    let sections = Sections::from([("exports".into(), files("/srv")), ("other".into(), files("/srv"))]);
    let registry = register(Registry::new().on("add", Add), &sections).unwrap();
    assert_eq!(registry.kinds().collect::<Vec<_>>(), ["add", "exports", "other"]);
}

#[test]
fn a_section_cannot_take_the_place_of_the_programs_own_handler() {
    let sections = Sections::from([("add".into(), files("/srv"))]);
    let error = register(Registry::new().on("add", Add), &sections).err().unwrap().to_string();
    assert!(error.starts_with("handlers.add: "), "{error}");
}

#[tokio::test]
async fn doctor_names_a_directory_that_is_absent() {
    assert!(check("exports", &files("/absent/postern")).await.unwrap_err().contains("/absent/postern"));
    assert!(check("exports", &files("/")).await.is_ok());
}
