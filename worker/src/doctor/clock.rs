//! Compares this host's clock with the endpoint's. Jobs have deadlines, and certificates a beginning and an end.
//!
//! MQTT does not carry the time. The endpoint also speaks HTTPS on port 443, and every answer has a `Date`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Step;
use crate::config::Config;
use crate::dial::dial;
use crate::tls;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Less than this is no trouble: a job's deadline is seldom shorter than a minute.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(30);
/// The headers of an answer are not longer.
const MAX_ANSWER: u64 = 16 * 1024;

pub(super) async fn check(config: &Config) -> Step {
    let theirs = match timeout(TIMEOUT, endpoint_time(config)).await {
        Ok(Ok(theirs)) => theirs,
        Ok(Err(error)) => {
            return Ok(format!("not compared, the endpoint tells no time on port 443 ({error})"));
        }
        Err(_) => return Ok("not compared, the endpoint does not answer on port 443".into()),
    };
    judge(Timestamp::now(), theirs)
}

fn judge(ours: Timestamp, theirs: Timestamp) -> Step {
    let ahead = ours.duration_since(theirs);
    let seconds = ahead.as_secs().abs();
    if ahead.abs() <= MOST_SKEW {
        return Ok(format!("ok, {seconds} s from the endpoint's"));
    }

    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    Err(format!(
        "this host's clock is {seconds} s {direction} the endpoint's ({ours:.0} against {theirs:.0}): jobs' deadlines \
         and certificates are judged by it; set it, for example by NTP"
    ))
}

/// The `Date` of the endpoint's answer to a HEAD request.
async fn endpoint_time(config: &Config) -> io::Result<Timestamp> {
    let host = &config.endpoint.host;
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tls = tls::https_config(config).map_err(io::Error::other)?;
    let tcp = dial(host, 443, config.proxy.as_ref()).await.map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;

    let request = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // A server that ends TLS without a farewell has answered all the same.
    let _ = stream.take(MAX_ANSWER).read_to_end(&mut answer).await;

    date(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("its answer has no Date"))
}

fn date(answer: &str) -> Option<Timestamp> {
    let value = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    })?;
    jiff::fmt::rfc2822::parse(value).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let answer =
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\ndate: Tue, 24 Nov 2026 16:38:46 GMT\r\n\r\n";
        assert_eq!(date(answer), Some("2026-11-24T16:38:46Z".parse().unwrap()));
        assert_eq!(date("HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn a_clock_that_is_wrong_by_more_than_half_a_minute_is_a_problem() {
        let theirs: Timestamp = "2026-11-24T16:00:00Z".parse().unwrap();
        let skewed = |seconds| judge(theirs + SignedDuration::from_secs(seconds), theirs);
        assert!(skewed(29).is_ok() && skewed(-29).is_ok());
        assert!(skewed(90).unwrap_err().contains("90 s ahead of"));
        assert!(skewed(-3_600).unwrap_err().contains("3600 s behind"));
    }
}
