//! Echoes one event so many times and prints the CPU time of one echo, in nanoseconds:
//! `postern-grip-bench EVENT.json TIMES`. The peers in `peers/` do the same work and print the same.
//!
//! `postern-grip-bench linear` prints what a body costs whatever is in it, and what each of 10, 100, 1,000 and 10,000
//! messages of 100 bytes adds to that (it should be the same): for the codec alone, decoded and encoded again,
//! for a `WebSocket`, request in and response out, and for all of it, event in and answer out.

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use grip::lambda::Event;
use grip::{Events, WebSocket};
use http::{Request, Response};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (file, times) = match (arguments.next(), arguments.next()) {
        (Some(file), Some(times)) => (file, times),
        (Some(word), None) if word == "linear" => return linear(),
        _ => return Err("postern-grip-bench EVENT.json TIMES, or postern-grip-bench linear".into()),
    };
    let (event, times) = (std::fs::read_to_string(file)?, times.parse::<u64>()?);
    for _ in 0..times.div_ceil(10) {
        black_box(echo(&event)?);
    }
    let before = cpu_nanoseconds();
    for _ in 0..times {
        black_box(echo(black_box(&event))?);
    }
    let spent = cpu_nanoseconds() - before;
    writeln!(std::io::stdout(), "{}", spent / times)?;
    Ok(())
}

fn echo(event: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let (request, reply) = Event::parse(event)?.into_request()?;
    Ok(serde_json::to_vec(&reply.response(echoed(&request)?))?)
}

fn echoed(request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Box<dyn Error>> {
    let mut ws = WebSocket::read(request)?;
    if ws.is_opening() {
        ws.accept();
    }
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    Ok(ws.to_response())
}

/// Numbers of messages in a body. None is what a request costs whatever is in it.
const SIZES: [usize; 5] = [0, 10, 100, 1_000, 10_000];

/// The least time of so many rounds counts: what else the machine does only adds to it.
const ROUNDS: usize = 60;

fn linear() -> Result<(), Box<dyn Error>> {
    let mut cases = Vec::new();
    for size in SIZES {
        let body = [b"TEXT 64\r\n", &[b'x'; 100][..], b"\r\n"].concat().repeat(size);
        let event = json!({
            "httpMethod": "POST", "path": "/", "isBase64Encoded": true, "body": BASE64.encode(&body),
            "headers": {"Content-Type": grip::CONTENT_TYPE, "Connection-Id": "1"},
        });
        let event = event.to_string();
        let (request, _) = Event::parse(&event)?.into_request()?;
        cases.push((50_000 / size.max(10), request, event));
    }
    let mut least = [[u64::MAX; SIZES.len()]; 3];
    for _ in 0..ROUNDS {
        for (case, (times, request, event)) in cases.iter().enumerate() {
            let codec = || {
                let body = black_box(request.body());
                let mut answer = Vec::with_capacity(body.len());
                for event in Events::decode(body)? {
                    event.encode(&mut answer);
                }
                Ok(answer)
            };
            let websocket = || Ok(echoed(black_box(request))?.into_body());
            let all = || echo(black_box(event));
            for (least, spent) in
                least.iter_mut().zip([time(*times, codec)?, time(*times, websocket)?, time(*times, all)?])
            {
                least[case] = least[case].min(spent);
            }
        }
    }
    for (layer, costs) in ["codec", "WebSocket", "event to answer"].iter().zip(least) {
        let each = costs.iter().zip(SIZES).skip(1);
        let each: Vec<_> = each.map(|(cost, size)| cost.saturating_sub(costs[0]) / size as u64).collect();
        let (least, most) = (each.iter().min().unwrap_or(&0), each.iter().max().unwrap_or(&0));
        let verdict = if most * 10 <= least * 12 { "within 20 %" } else { "NOT within 20 %" };
        writeln!(
            std::io::stdout(),
            "{layer}: {} ns, and for each of {:?} messages {each:?} ns: {verdict}",
            costs[0],
            &SIZES[1..],
        )?;
    }
    Ok(())
}

/// The CPU time of `work`, in nanoseconds, done so many times, and once before, as all cases share the caches.
fn time(times: usize, work: impl Fn() -> Result<Vec<u8>, Box<dyn Error>>) -> Result<u64, Box<dyn Error>> {
    black_box(work()?);
    let before = cpu_nanoseconds();
    for _ in 0..times {
        black_box(work()?);
    }
    Ok((cpu_nanoseconds() - before) / times as u64)
}

/// Of the one thread that there is. The system's own count (`/proc`) goes in steps of a scheduler's tick.
fn cpu_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
