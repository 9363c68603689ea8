//! Metrics in the CloudWatch embedded metric format: a JSON line on standard output becomes a metric,
//! without a call. <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The namespace of all of Postern's metrics.
pub const NAMESPACE: &str = "Postern";

/// Counts one `metric` (unit `Count`) under the dimension `FunctionName`.
pub fn count(metric: &str) {
    add(metric, 1);
}

/// Adds `number` to `metric`; nothing is written where there is nothing to add.
#[expect(clippy::print_stdout, reason = "standard output is where CloudWatch Logs reads it")]
pub fn add(metric: &str, number: usize) {
    if number == 0 {
        return;
    }
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!("{}", line(metric, number, &function, now.as_millis()));
}

fn line(metric: &str, number: usize, function: &str, at_ms: u128) -> Value {
    json!({
        "_aws": {
            "Timestamp": at_ms,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["FunctionName"]],
                "Metrics": [{ "Name": metric, "Unit": "Count" }],
            }],
        },
        "FunctionName": function,
        metric: number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_metric_twice_as_the_format_wants() {
        let line = line("ClosedTasks", 3, "done", 1_700_000_000_000);
        assert_eq!(line["ClosedTasks"], 3);
        assert_eq!(line["FunctionName"], "done");
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_000_u64);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], "ClosedTasks");
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0][0], "FunctionName");
    }
}
