//! Metrics in the CloudWatch embedded metric format: CloudWatch turns a JSON line on standard output into a metric, and
//! the function makes no call.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The namespace of all metrics of Postern.
pub const NAMESPACE: &str = "Postern";

/// Adds 1 to `metric`, whose unit is `Count` and whose dimension is `FunctionName`.
pub fn count(metric: &str) {
    add(metric, 1);
}

/// Adds 1 to `metric` of the function, and to `metric` of the function and a tenant: a second metric, by which an alarm
/// can tell one tenant's silence from another's traffic.
pub fn count_for(tenant: &str, metric: &str) {
    write(metric, 1, Some(tenant));
}

/// Adds `number` to `metric`. Zero writes no line.
pub fn add(metric: &str, number: usize) {
    if number > 0 {
        write(metric, number, None);
    }
}

#[expect(clippy::print_stdout, reason = "CloudWatch Logs reads standard output")]
fn write(metric: &str, number: usize, tenant: Option<&str>) {
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();

    let mut line = line(metric, number, &function, now.as_millis());
    if let Some(tenant) = tenant {
        add_tenant(&mut line, tenant);
    }
    println!("{line}");
}

/// Adds the tenant as a second dimension, beside the metric of the function alone.
fn add_tenant(line: &mut Value, tenant: &str) {
    line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] =
        json!([["FunctionName"], ["FunctionName", "Tenant"]]);
    line["Tenant"] = json!(tenant);
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
    fn a_line_declares_the_metric_and_gives_its_value() {
        let line = line("ClosedTasks", 3, "done", 1_700_000_000_000);
        assert_eq!(line["ClosedTasks"], 3);
        assert_eq!(line["FunctionName"], "done");
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_000_u64);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], "ClosedTasks");
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0][0], "FunctionName");
    }

    #[test]
    fn a_line_for_a_tenant_counts_for_the_function_and_for_the_tenant() {
        let mut line = line("Answers", 1, "done", 1_700_000_000_000);
        add_tenant(&mut line, "tenant1");

        let dimensions = &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
        assert_eq!(*dimensions, json!([["FunctionName"], ["FunctionName", "Tenant"]]));
        assert_eq!((&line["FunctionName"], &line["Tenant"]), (&json!("done"), &json!("tenant1")));
    }
}
