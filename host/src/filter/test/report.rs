//! What a test says: for people, for programs, and as a table.

use serde_json::{Value, json};

use super::cut::Cut;
use super::exchange::Outcome;
use super::plan::{Plan, Planned};
use super::subject::Module;
use crate::filter::arguments::{Report, Test};

/// A subject and what came of it.
pub(crate) struct Row<'a> {
    plan: &'a Plan,
    here: Option<Vec<Outcome>>,
    envoy: Option<Vec<Outcome>>,
}

/// How many cases went how in one host.
struct Counts {
    cases: usize,
    runs: usize,
    failed: usize,
    left_out: usize,
}

impl<'a> Row<'a> {
    /// Nothing was run yet.
    pub(crate) fn planned(plan: &'a Plan) -> Self {
        Self {
            plan,
            here: None,
            envoy: None,
        }
    }

    pub(crate) fn ran_here(&mut self, outcomes: Vec<Outcome>) {
        self.here = Some(outcomes);
    }

    pub(crate) fn ran_in_envoy(&mut self, outcomes: Vec<Outcome>) {
        self.envoy = Some(outcomes);
    }

    /// Whether everything that was run is as expected.
    pub(crate) fn is_fine(&self) -> bool {
        let mut all = self.here.iter().chain(&self.envoy).flatten();
        all.all(|outcome| outcome.found.is_empty())
    }

    fn counts(
        &self,
        why: fn(&Planned) -> Option<&'static str>,
        ran: Option<&Vec<Outcome>>,
    ) -> Counts {
        let cases = &self.plan.cases;
        let left_out = cases
            .iter()
            .filter(|planned| why(planned).is_some())
            .count();
        let failed = |at: &usize| first_failure(ran, *at).is_some();
        Counts {
            cases: cases.len() - left_out,
            runs: ran.map_or(0, Vec::len),
            failed: (0..cases.len()).filter(failed).count(),
            left_out,
        }
    }

    fn here(&self) -> Counts {
        self.counts(|planned| planned.not_here, self.here.as_ref())
    }

    fn envoy(&self) -> Counts {
        self.counts(|planned| planned.not_in_envoy, self.envoy.as_ref())
    }

    fn failures(&self) -> impl Iterator<Item = Failure<'_>> {
        self.plan
            .cases
            .iter()
            .enumerate()
            .filter_map(|(at, planned)| {
                let here = first_failure(self.here.as_ref(), at);
                let envoy = first_failure(self.envoy.as_ref(), at);
                let has_envoy = self.envoy.is_some();
                (here.is_some() || envoy.is_some()).then(|| Failure {
                    planned,
                    cut: here.map_or(Cut::Written, |outcome| outcome.cut),
                    here: side(here, planned.not_here),
                    envoy: has_envoy.then(|| side(envoy, planned.not_in_envoy)),
                })
            })
    }
}

/// A case that is not as expected in one host or both.
struct Failure<'a> {
    planned: &'a Planned,
    cut: Cut,
    here: Vec<String>,
    envoy: Option<Vec<String>>,
}

fn first_failure(ran: Option<&Vec<Outcome>>, at: usize) -> Option<&Outcome> {
    let mut of_case = ran
        .into_iter()
        .flatten()
        .filter(|outcome| outcome.case_at == at);
    of_case.find(|outcome| !outcome.found.is_empty())
}

fn side(failed: Option<&Outcome>, left_out: Option<&'static str>) -> Vec<String> {
    match (failed, left_out) {
        (Some(outcome), _) => outcome.found.clone(),
        (None, Some(why)) => vec![format!("not run: {why}")],
        (None, None) => vec!["as expected".to_owned()],
    }
}

/// Prints the report on standard output.
pub(crate) fn print(rows: &[Row<'_>], arguments: &Test) -> anyhow::Result<()> {
    match arguments.output {
        Report::Text => rows.iter().for_each(|row| text(row, arguments)),
        Report::Json => {
            let filters: Vec<Value> = rows.iter().map(value).collect();
            println!(
                "{}",
                serde_json::to_string_pretty(&json!({"filters": filters}))?
            );
        }
        Report::Markdown => table(rows),
    }
    Ok(())
}

fn text(row: &Row<'_>, arguments: &Test) {
    let name = &row.plan.subject.name;
    for failure in row.failures() {
        println!("{name}: {} ({})", failure.planned.case.name, failure.cut);
        beside("here ", &failure.here);
        if let Some(envoy) = &failure.envoy {
            beside("Envoy", envoy);
        }
    }
    let said = |place: &str, counts: &Counts| {
        if arguments.list {
            return format!("{} {place}", counts.cases);
        }
        let failed = match counts.failed {
            0 => String::new(),
            failed => format!(", {failed} FAILED"),
        };
        let left_out = match counts.left_out {
            0 => String::new(),
            left_out => format!(", {left_out} left out"),
        };
        format!(
            "{} {place} in {} runs{failed}{left_out}",
            counts.cases, counts.runs
        )
    };
    let mut line = format!(
        "{name}: {} cases, {}",
        row.plan.cases.len(),
        said("here", &row.here())
    );
    if row.envoy.is_some() || arguments.list {
        line.push_str(&format!("; {}", said("in Envoy", &row.envoy())));
    }
    println!("{line}");
}

fn beside(host: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        let host = if at == 0 { host } else { "     " };
        println!("    {host} | {line}");
    }
}

fn value(row: &Row<'_>) -> Value {
    let left_out = row
        .plan
        .cases
        .iter()
        .filter(|planned| planned.not_here.is_some() || planned.not_in_envoy.is_some())
        .map(|planned| {
            json!({"case": planned.case.name, "here": planned.not_here, "envoy": planned.not_in_envoy})
        });
    let failures = row.failures().map(|failure| {
        json!({"case": failure.planned.case.name, "cut": failure.cut.to_string(),
            "here": failure.here, "envoy": failure.envoy})
    });
    let counts = |counts: Counts, ran: bool| json!({"cases": counts.cases, "leftOut": counts.left_out, "ran": ran, "runs": counts.runs, "failed": counts.failed});
    json!({
        "name": row.plan.subject.name,
        "bytes": row.plan.subject.size(),
        "cases": row.plan.cases.len(),
        "here": counts(row.here(), row.here.is_some()),
        "envoy": counts(row.envoy(), row.envoy.is_some()),
        "failures": failures.collect::<Vec<_>>(),
        "leftOut": left_out.collect::<Vec<_>>(),
    })
}

/// Counts as a table. On the mock host all cases of a bundled filter run, in its own tests.
fn table(rows: &[Row<'_>]) {
    println!("| Filter | Cases | On the mock host | Here | In Envoy |");
    println!("|---|---|---|---|---|");
    let mut sums = [0; 4];
    for row in rows {
        let cases = row.plan.cases.len();
        let mock = match row.plan.subject.module {
            Module::Builtin(_) => cases,
            Module::File(_) => 0,
        };
        let counts = [cases, mock, row.here().cases, row.envoy().cases];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        println!("{}", line(&format!("`{}`", row.plan.subject.name), counts));
    }
    if rows.len() > 1 {
        println!("{}", line("all", sums));
    }
}

fn line(name: &str, [cases, mock, here, envoy]: [usize; 4]) -> String {
    format!("| {name} | {cases} | {mock} | {here} | {envoy} |")
}
