//! A stand-in for an AWS service on loopback, for the functions' own tests: it answers every request alike,
//! and keeps what was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where it listens, and what it was asked so far: each request's head, lower case, and body.
pub(crate) struct Stub {
    pub(crate) endpoint: String,
    pub(crate) requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Stub {
    /// A service that answers with this HTTP status and, as services do it, this error code.
    pub(crate) fn answering(status: u16, code: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let request = answer(connection.unwrap(), status, code);
                noted.lock().unwrap().push(request);
            }
        });
        Self { endpoint, requests }
    }
}

fn answer(connection: TcpStream, status: u16, code: &str) -> (String, String) {
    let mut reader = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer =
        if code.is_empty() { "{}".into() } else { format!(r#"{{"__type":"{code}","message":"no"}}"#) };
    let error = if code.is_empty() { String::new() } else { format!("x-amzn-errortype: {code}\r\n") };
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status} Answer\r\n{error}content-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
    (head, String::from_utf8(body).unwrap())
}
