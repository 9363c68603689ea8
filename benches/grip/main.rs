//! The CPU time of an echo of WebSocket events.
//!
//! `postern-grip-bench EVENT.json TIMES` echoes one event `TIMES` times and prints the CPU time of one echo in
//! nanoseconds. The programs in `peers/` do the same work with other libraries and print the same number.
//!
//! `postern-grip-bench linear` prints the fixed cost of a request, and the cost of each of 10, 100, 1,000 and 10,000
//! messages of 100 bytes, which should be the same. It measures three layers: the codec alone, which decodes a body and
//! encodes it again; a `WebSocket`, from request to response; and the whole way, from event to response.

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
        _ => return Err("usage: postern-grip-bench EVENT.json TIMES, or postern-grip-bench linear".into()),
    };

    let (event, times) = (std::fs::read_to_string(file)?, times.parse::<u64>()?);
    // A tenth of the rounds first, so that the caches are warm.
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

/// Reads an event, echoes its messages, and writes the response for Lambda.
fn echo(event: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let (request, reply) = Event::parse(event)?.into_request()?;
    Ok(serde_json::to_vec(&reply.response(echoed(&request)?))?)
}

/// Echoes the messages of a request.
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

/// The numbers of messages in a body. 0 measures the fixed cost of a request.
const SIZES: [usize; 5] = [0, 10, 100, 1_000, 10_000];

/// The rounds, of which the fastest counts: other work on the machine only adds to the time.
const ROUNDS: usize = 60;

/// The names of the three layers, in the order of [`Case::measure`].
const LAYERS: [&str; 3] = ["codec", "WebSocket", "event to response"];

/// A request with one of the [`SIZES`], in two forms.
struct Case {
    times: usize,
    request: Request<Vec<u8>>,
    event: String,
}

impl Case {
    fn new(size: usize) -> Result<Self, Box<dyn Error>> {
        let body = [b"TEXT 64\r\n", &[b'x'; 100][..], b"\r\n"].concat().repeat(size);
        let event = json!({
            "httpMethod": "POST", "path": "/", "isBase64Encoded": true, "body": BASE64.encode(&body),
            "headers": {"Content-Type": grip::CONTENT_TYPE, "Connection-Id": "1"},
        });
        let event = event.to_string();
        let (request, _) = Event::parse(&event)?.into_request()?;
        Ok(Self { times: 50_000 / size.max(10), request, event })
    }

    /// The CPU time of each layer, in nanoseconds.
    fn measure(&self) -> Result<[u64; 3], Box<dyn Error>> {
        let codec = || {
            let body = black_box(self.request.body());
            let mut response = Vec::with_capacity(body.len());
            for event in Events::decode(body)? {
                event.encode(&mut response);
            }
            Ok(response)
        };
        let websocket = || Ok(echoed(black_box(&self.request))?.into_body());
        let whole = || echo(black_box(&self.event));

        Ok([time(self.times, codec)?, time(self.times, websocket)?, time(self.times, whole)?])
    }
}

fn linear() -> Result<(), Box<dyn Error>> {
    let cases = SIZES.iter().map(|size| Case::new(*size)).collect::<Result<Vec<_>, _>>()?;

    let mut least = [[u64::MAX; SIZES.len()]; LAYERS.len()];
    for _ in 0..ROUNDS {
        for (number, case) in cases.iter().enumerate() {
            for (least, spent) in least.iter_mut().zip(case.measure()?) {
                least[number] = least[number].min(spent);
            }
        }
    }

    for (layer, costs) in LAYERS.iter().zip(least) {
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

/// The CPU time of one run of `work` in nanoseconds, from `times` runs. One run before them fills the caches, which all
/// cases share.
fn time(times: usize, work: impl Fn() -> Result<Vec<u8>, Box<dyn Error>>) -> Result<u64, Box<dyn Error>> {
    black_box(work()?);

    let before = cpu_nanoseconds();
    for _ in 0..times {
        black_box(work()?);
    }
    Ok((cpu_nanoseconds() - before) / times as u64)
}

/// The CPU time of this thread, the only one. `/proc` would count in steps of the scheduler's tick.
fn cpu_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
