//! Echoes one event so many times and prints the CPU time of one echo, in nanoseconds:
//! `grip-bench EVENT.json TIMES`. The peers in `peers/` do the same work and print the same.
//!
//! `grip-bench codec` prints what one of 10, 100, 1,000 and 10,000 messages of 100 bytes costs the codec alone,
//! decoded and encoded again (it should be the same), and a `WebSocket`, request in and response out.

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;

use grip::lambda::Event;
use grip::{Events, WebSocket};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (file, times) = match (arguments.next(), arguments.next()) {
        (Some(file), Some(times)) => (file, times),
        (Some(word), None) if word == "codec" => return codec(),
        _ => return Err("grip-bench EVENT.json TIMES, or grip-bench codec".into()),
    };
    let (event, times) = (std::fs::read_to_string(file)?, times.parse::<u64>()?);
    for _ in 0..times.div_ceil(10) {
        black_box(echo(&event)?);
    }
    let before = cpu_nanoseconds()?;
    for _ in 0..times {
        black_box(echo(black_box(&event))?);
    }
    let spent = cpu_nanoseconds()? - before;
    writeln!(std::io::stdout(), "{}", spent / times)?;
    Ok(())
}

fn echo(event: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let (request, reply) = Event::parse(event)?.into_request()?;
    let mut ws = WebSocket::read(&request)?;
    if ws.is_opening() {
        ws.accept();
    }
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    Ok(serde_json::to_vec(&reply.response(ws.to_response()))?)
}

fn codec() -> Result<(), Box<dyn Error>> {
    const ROUNDS: usize = 15;
    let sizes = [10_usize, 100, 1_000, 10_000];
    let mut costs = sizes.map(|_| (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)));
    for _ in 0..ROUNDS {
        for (size, (codec, websocket)) in sizes.iter().zip(&mut costs) {
            let request = http::Request::post("/")
                .header("content-type", grip::CONTENT_TYPE)
                .header("connection-id", "1")
                .body([b"TEXT 64\r\n", &[b'x'; 100][..], b"\r\n"].concat().repeat(*size))?;
            let times = 200_000 / size;
            let messages = u64::try_from(times * size)?;
            let before = cpu_nanoseconds()?;
            for _ in 0..times {
                let body = black_box(request.body());
                let mut answer = Vec::with_capacity(body.len());
                for event in Events::decode(body)? {
                    event.encode(&mut answer);
                }
                black_box(answer);
            }
            codec.push((cpu_nanoseconds()? - before) / messages);
            let before = cpu_nanoseconds()?;
            for _ in 0..times {
                let mut ws = WebSocket::read(black_box(&request))?;
                while let Some(message) = ws.recv() {
                    ws.send(message);
                }
                black_box(ws.to_response());
            }
            websocket.push((cpu_nanoseconds()? - before) / messages);
        }
    }
    for (size, (codec, websocket)) in sizes.iter().zip(&mut costs) {
        codec.sort_unstable();
        websocket.sort_unstable();
        let (codec, websocket) = (codec[ROUNDS / 2], websocket[ROUNDS / 2]);
        writeln!(
            std::io::stdout(),
            "{size:>6} messages: codec {codec} ns each, WebSocket {websocket} ns each"
        )?;
    }
    Ok(())
}

/// Of the one thread that there is, as Linux counts it.
fn cpu_nanoseconds() -> Result<u64, Box<dyn Error>> {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(counts.split(' ').next().unwrap_or_default().parse()?)
}
