//! How long dispatching and a whole round trip take, by the clock of Step Functions.

use aws_sdk_sfn::types::{HistoryEvent, HistoryEventType};
use serde_json::json;

use crate::checks::Checked;
use crate::copies::probe;
use crate::error::Error;
use crate::report::Verdict;
use crate::site::Site;

/// Runs jobs one after the other and reports the percentiles.
pub(crate) async fn latencies(site: &Site) -> Checked {
    let machine = probe(site, "latency", |_, _| ()).await?;
    let (mut dispatch, mut round_trip) = (Vec::new(), Vec::new());

    for number in 0..site.options.jobs {
        let job = json!({"tenant": site.tenant, "kind": "add", "input": {"a": number, "b": 0}});
        let (execution, finished) = site.run(&machine, &job).await?;
        if finished.status != "SUCCEEDED" {
            return Err(Error::unexpected(format!("expected a success, found {finished:?}")));
        }

        let history = site.executions.history(&execution).await?;
        let since_scheduled = |kind: &HistoryEventType| {
            Some(at(&history, kind)? - at(&history, &HistoryEventType::TaskScheduled)?)
        };
        // A fast worker's answer can end the task before Step Functions has recorded the dispatcher's return.
        dispatch.extend(since_scheduled(&HistoryEventType::TaskSubmitted));
        round_trip.extend(since_scheduled(&HistoryEventType::TaskSucceeded));
    }

    Ok(Verdict::Observed(format!(
        "{} jobs, one after the other: dispatch {}; round trip {}",
        site.options.jobs,
        figures(&mut dispatch),
        figures(&mut round_trip)
    )))
}

/// The milliseconds at which the first event of a kind happened.
fn at(history: &[HistoryEvent], kind: &HistoryEventType) -> Option<f64> {
    let event = history.iter().find(|event| event.r#type() == kind)?;
    Some(event.timestamp().as_secs_f64() * 1_000.0)
}

/// The percentiles of the times that were measured.
fn figures(times: &mut [f64]) -> String {
    if times.is_empty() {
        return "not recorded".into();
    }

    times.sort_by(f64::total_cmp);
    format!("p50 {:.0} ms, p99 {:.0} ms", percentile(times, 50), percentile(times, 99))
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::{figures, percentile};

    #[test]
    fn a_percentile_is_the_value_at_its_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&values, 50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < f64::EPSILON);
    }

    #[test]
    fn times_that_no_history_records_are_not_figures() {
        assert_eq!(figures(&mut []), "not recorded");
        assert_eq!(figures(&mut [7.0, 5.0]), "p50 5 ms, p99 7 ms");
    }
}
