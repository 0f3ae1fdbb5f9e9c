//! `pollux bench report`: recorded runs as a page or as tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pollux_bench::report::{self, Form, ReportError, Run};

const EXAMPLE: &str = "Examples:
  pollux bench report run.json                           one run as report.html
  pollux bench report results --out all.html             every .json file below a folder
  pollux bench report run.json --markdown                its medians as a Markdown table
  pollux bench report results --markdown=index           one row a folder
  pollux bench report --update README.md                 the tables that README.md keeps, drawn anew

Reads what `pollux bench compare --json` and `pollux bench ring --json` printed. The page is one file that
fetches nothing. A table is kept between two lines, with files relative to its own folder:
  <!-- pollux bench report: overview results/run.json -->
  <!-- end of report -->";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Report {
    /// Recorded runs, or folders of them; with --update Markdown files
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Where the page goes
    #[arg(long, value_name = "FILE", default_value = "report.html", conflicts_with_all = ["markdown", "update"])]
    out: PathBuf,
    /// Print Markdown instead: tables (the medians of each run), overview (Pollux over all transports),
    /// index (one row a folder)
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "tables")]
    markdown: Option<Form>,
    /// Draw the tables that Markdown files keep anew
    #[arg(long, conflicts_with = "markdown")]
    update: bool,
}

impl Report {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        self.draw().map_err(|e| e.to_string())?;
        Ok(ExitCode::SUCCESS)
    }

    fn draw(&self) -> Result<(), ReportError> {
        if self.update {
            return self.paths.iter().try_for_each(|path| update(path));
        }
        let runs = Run::read_all(&self.paths)?;
        if let Some(form) = self.markdown {
            print!("{}", form.write(&runs));
            return Ok(());
        }
        report::save(&self.out, &report::page(&report::report(&runs)))?;
        eprintln!("{}: {} recorded runs", self.out.display(), runs.len());
        Ok(())
    }
}

fn update(path: &Path) -> Result<(), ReportError> {
    let text = fs::read_to_string(path).map_err(|reason| ReportError::Read {
        path: path.to_owned(),
        reason,
    })?;
    let updated = report::update(path, &text)?;
    if updated != text {
        report::save(path, &updated)?;
        eprintln!("{}: drawn anew", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        report: Report,
    }

    fn parse(line: &str) -> Result<Report, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.report)
    }

    #[test]
    fn every_example_is_understood() {
        let examples = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("  pollux bench "));
        let parsed: Vec<Report> = examples
            .map(|example| parse(example.split("   ").next().unwrap_or_default()).expect(example))
            .collect();
        let forms: Vec<Option<Form>> = parsed.iter().map(|it| it.markdown).collect();
        assert_eq!(
            forms,
            [None, None, Some(Form::Tables), Some(Form::Index), None]
        );
        assert!(parsed[4].update && parsed[1].out == Path::new("all.html"));
    }

    #[test]
    fn one_thing_at_a_time_is_drawn() {
        assert!(parse("report").is_err());
        assert!(parse("report a --markdown --out b").is_err());
        assert!(parse("report a --markdown --update").is_err());
        let error = parse("report a --markdown=chart").unwrap_err().to_string();
        assert!(error.contains("chart: unknown form"), "{error}");
    }
}
