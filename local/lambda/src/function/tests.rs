use serde_json::{Value, json};

use super::*;
use crate::testing::{bootstrap, function};

async fn invoke(function: &Function, event: Value) -> Result<Value, String> {
    let outcome = function.invoke(event.to_string().into_bytes()).await;
    let json = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap();
    outcome.map(json).map_err(|FunctionError(error)| json(error)["errorType"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_response_and_a_function_error_are_kept_apart() {
    let function = function(1).await;
    for _ in 0..3 {
        assert_eq!(invoke(&function, json!({"a": 1})).await, Ok(json!({"a": 1})));
        assert_eq!(invoke(&function, json!({"fail": true})).await, Err("Test.Failed".into()));
    }
}

#[tokio::test]
async fn a_process_that_ends_fails_its_event_and_is_replaced() {
    let function = function(1).await;
    let first = function.pids();
    assert_eq!(first.len(), 1);

    assert_eq!(invoke(&function, json!({"exit": true})).await, Err("Runtime.ExitError".into()));
    assert_eq!(invoke(&function, json!(2)).await, Ok(json!(2)));
    assert_eq!(function.pids().len(), 1);
    assert_ne!(function.pids(), first);
}

#[tokio::test]
async fn a_slow_event_does_not_block_others_and_a_kill_fails_it() {
    let function = function(2).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held = json!({"hold": listener.local_addr().unwrap().to_string()});
    let slow = invoke(&function, held.clone());

    let others = async {
        let (socket, _) = listener.accept().await.unwrap();
        for number in 0..3 {
            assert_eq!(invoke(&function, json!(number)).await, Ok(json!(number)));
        }
        drop(socket);
    };
    assert_eq!(tokio::join!(slow, others).0, Ok(held.clone()));

    let slow = invoke(&function, held);
    let killed = async {
        let socket = listener.accept().await.unwrap();
        function.kill();
        socket
    };
    assert_eq!(tokio::join!(slow, killed).0, Err("Runtime.ExitError".into()));
    assert_eq!(invoke(&function, json!(4)).await, Ok(json!(4)));
}

#[tokio::test]
async fn a_process_that_ends_before_it_polls_fails_every_event() {
    let function = Function::start(&bootstrap(), 1, &[("END", "at once")]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(invoke(&function, json!(1)).await, Err("Runtime.ExitError".into()));
    }
}

#[tokio::test]
async fn a_missing_bootstrap_is_an_error_at_the_start() {
    let error = Function::start(Path::new("/nowhere"), 1, &[]).await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere: "), "{error}");
}
