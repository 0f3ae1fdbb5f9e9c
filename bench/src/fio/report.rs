//! fio's JSON report, as far as it is used here. Format: "json" in fio's HOWTO, checked with 3.33.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{FioError, Pattern};
use crate::load::{LatencyNs, LoadResult};

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i32,
    #[serde(default)]
    total_err: u64,
    read: Direction,
    write: Direction,
}

#[derive(Deserialize)]
struct Direction {
    iops: f64,
    total_ios: u64,
    lat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    min: u64,
    max: u64,
    mean: f64,
    #[serde(default)]
    percentile: BTreeMap<String, u64>,
}

impl Latency {
    fn percentiles(&self) -> Result<LatencyNs, FioError> {
        let get = |key: &str| {
            let value = self.percentile.get(key).copied();
            value.ok_or_else(|| FioError::Report(format!("lat_ns lacks percentile {key}")))
        };
        Ok(LatencyNs {
            min: self.min,
            mean: self.mean,
            p50: get("50.000000")?,
            p90: get("90.000000")?,
            p99: get("99.000000")?,
            p999: get("99.900000")?,
            max: self.max,
        })
    }
}

/// Reads the report of one job that ran `rw`. Text before the opening brace is skipped: fio prints
/// its notes there.
pub(super) fn parse(text: &str, rw: Pattern) -> Result<LoadResult, FioError> {
    let bad = |reason: String| FioError::Report(reason);
    let start = if text.starts_with('{') {
        Some(0)
    } else {
        text.find("\n{").map(|at| at + 1)
    };
    let json = &text[start.ok_or_else(|| bad("no JSON in its output".to_owned()))?..];
    let report: Report = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let [job] = report.jobs.as_slice() else {
        return Err(bad(format!("{} jobs where one was run", report.jobs.len())));
    };
    let side = if rw.only_reads() {
        &job.read
    } else {
        &job.write
    };
    if side.total_ios == 0 {
        return Err(bad(format!(
            "no {rw} request completed (error {})",
            job.error
        )));
    }
    // Without a count, `error` still tells that there was one.
    let errors = job.total_err.max(u64::from(job.error != 0));
    let latency_ns = side.lat_ns.percentiles()?;
    Ok(LoadResult {
        iops: side.iops,
        latency_ns,
        requests: side.total_ios,
        errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// fio 3.33, 4 KiB random reads at depth 4 from a file; unused parts cut out.
    const REPORT: &str = include_str!("../../tests/data/fio-3.33-randread.json");

    #[test]
    fn a_report_is_read() {
        let load = parse(REPORT, Pattern::RandRead).unwrap();
        assert!((load.iops - 48_357.321_339).abs() < 1e-6);
        assert_eq!((load.requests, load.errors), (96_763, 0));
        let latency = load.latency_ns;
        assert_eq!((latency.min, latency.max), (16_480, 1_584_404));
        assert_eq!((latency.p50, latency.p90), (77_312, 98_816));
        assert_eq!((latency.p99, latency.p999), (162_816, 325_632));
        assert!((latency.mean - 82_342.083_449).abs() < 1e-6);
    }

    #[test]
    fn notes_before_the_report_are_skipped() {
        let noted = format!("note: both iodepth >= 1\nfio: {{x}}\n{REPORT}");
        assert_eq!(parse(&noted, Pattern::RandRead).unwrap().requests, 96_763);
    }

    #[test]
    fn errors_are_counted() {
        let counted = REPORT.replace(r#""total_err" : 0"#, r#""total_err" : 17"#);
        assert_eq!(parse(&counted, Pattern::RandRead).unwrap().errors, 17);
        let uncounted = REPORT.replace(r#""error" : 0"#, r#""error" : 5"#);
        assert_eq!(parse(&uncounted, Pattern::RandRead).unwrap().errors, 1);
    }

    #[test]
    fn reports_without_a_result_are_refused() {
        let refused = |text: &str, rw| parse(text, rw).unwrap_err().to_string();
        assert!(refused(REPORT, Pattern::RandWrite).contains("no randwrite request"));
        assert!(refused("fio: engine io_uring not loadable", Pattern::Read).contains("no JSON"));
        assert!(refused(&REPORT[..200], Pattern::Read).contains("EOF"));
        assert!(refused(r#"{"jobs": []}"#, Pattern::Read).contains("0 jobs"));
        let without = REPORT.replace("99.900000", "99.950000");
        assert!(refused(&without, Pattern::RandRead).contains("99.900000"));
    }
}
