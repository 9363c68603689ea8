//! Kafka and GRIP, where the stack contains them: that they are set up and guarded. Their data is left alone.

use bytes::Bytes;
use http::Method;
use postern_local::Call;
use serde_json::Value;

use crate::checks::{Checked, expect, passed};
use crate::report::Verdict;
use crate::site::Site;

/// The event source mapping reads the topic.
pub(crate) async fn kafka(site: &Site) -> Checked {
    let id = site.outputs.get("MskToS3SourceId");
    if id.is_empty() {
        return Ok(Verdict::NotDeployed("the stack reads no Kafka topic".into()));
    }

    let path = format!("/2015-03-31/event-source-mappings/{id}");
    let call = Call { service: "lambda", method: Method::GET, path: &path, headers: &[], body: Bytes::new() };
    let mapping = site.api.send("Lambda GetEventSourceMapping", call).await?;
    let mapping: Value = serde_json::from_slice(&mapping).unwrap_or_default();
    let state = mapping["State"].as_str().unwrap_or_default();

    let result = mapping["LastProcessingResult"].as_str().unwrap_or("no result yet");
    expect(state == "Enabled", || format!("the mapping is {state}, with the last result {result:?}"))?;
    Ok(passed(format!("the mapping is enabled; its last result: {result}")))
}

/// The public URL refuses a caller without the publisher's token.
pub(crate) async fn grip(site: &Site) -> Checked {
    let url = site.outputs.get("GripEchoUrl");
    if url.is_empty() {
        return Ok(Verdict::NotDeployed("the stack has no GRIP function".into()));
    }

    let publish = format!("{}/publish", url.trim_end_matches('/'));
    let (status, _) = site.api.open(Method::POST, &publish).await?;
    let refused = matches!(status, 401 | 403);
    expect(refused, || {
        format!("POST {publish} without a token is answered with HTTP {status}, not 401 or 403")
    })?;
    Ok(passed(format!("POST /publish without a token is refused with HTTP {status}")))
}
