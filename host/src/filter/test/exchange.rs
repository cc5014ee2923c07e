//! The exchanges of a run in one host, and what was not as expected of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_filter_cases::{Case, Exchange, Expect, ExpectedHeader, Observed, Seen, Upstream};

use super::client::{self, Target};
use super::cut::Cut;
use super::plan::Run;
use super::world::World;

/// How long what comes beside the answer may take: a call that nobody waits for, a line of the log.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How often what nobody announces is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// A host with the run's filter in place.
pub(crate) trait Stage: Target {
    /// Time passes before an exchange.
    fn advance(&mut self, time: Duration);

    /// Whether the filter has done with all exchanges so far. Where its calls run beside the worker, the next one could otherwise
    /// meet another VM, which remembers nothing of them.
    fn is_quiet(&self) -> bool;

    /// Lines that the filter has logged.
    fn logs(&self) -> Vec<String>;

    /// Its metrics.
    async fn metrics(&self, names: &[&str]) -> BTreeMap<String, i64>;
}

/// What a run has come to.
pub(crate) struct Outcome {
    /// The case's place in the plan.
    pub(crate) case_at: usize,
    pub(crate) cut: Cut,
    /// What was not as expected, a line for each.
    pub(crate) found: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(run: &Run<'_>, found: Vec<String>) -> Self {
        Self {
            case_at: run.case_at,
            cut: run.cut,
            found,
        }
    }
}

/// Runs the exchanges of a case whose filter was taken. `metrics` are those before it.
pub(crate) async fn play(
    run: &Run<'_>,
    stage: &mut impl Stage,
    world: &World,
    before: &BTreeMap<String, i64>,
) -> Outcome {
    let mut found = Vec::new();
    let case = run.case;
    for (at, exchange) in case.exchanges().iter().enumerate() {
        stage.advance(Duration::from_secs_f64(exchange.advance));
        let prefix = match case.steps.len() {
            0 => String::new(),
            _ => format!("step {}: ", at + 1),
        };
        let lines = one(run, exchange, stage, world).await;
        found.extend(lines.iter().map(|line| format!("{prefix}{line}")));
    }
    afterwards(case, stage, before, &mut found).await;
    Outcome::new(run, found)
}

async fn one(run: &Run<'_>, exchange: &Exchange, stage: &impl Stage, world: &World) -> Vec<String> {
    world.script.begin(exchange);
    let answer = client::ask(stage, &exchange.request, run.cut).await;
    let expects_upstream = matches!(exchange.expect.upstream, Some(Upstream::Request(_)));
    // Nothing more comes of an exchange that has failed.
    if answer.is_ok() {
        let over = async {
            while !(world.script.is_over(expects_upstream) && stage.is_quiet()) {
                // A change between the look and the wait is found at the next look.
                let _ = tokio::time::timeout(LOOK, world.script.changed()).await;
            }
        };
        let _ = tokio::time::timeout(AFTERWARDS, over).await;
    }
    let (upstream, mut found) = world.script.end();
    match answer {
        Ok(mut response) => {
            leave_framing(&mut response, &exchange.expect);
            let seen = Seen { response, upstream };
            found.extend(seen.differences(&exchange.expect));
        }
        Err(error) => found.push(format!("{error:#}")),
    }
    found
}

/// The length of a body is the host's to say: one that is right is none that the filter let through.
fn leave_framing(response: &mut Observed, expect: &Expect) {
    const LENGTH: &str = "content-length";
    let absent = expect.response.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case(LENGTH) && matches!(value, ExpectedHeader::Absent(()))
    });
    if absent {
        let right = response.body.len().to_string();
        response
            .headers
            .retain(|(name, value)| name != LENGTH || *value != right);
    }
}

/// Looks at logs and metrics until they are as expected, or time is over.
async fn afterwards(
    case: &Case,
    stage: &impl Stage,
    before: &BTreeMap<String, i64>,
    found: &mut Vec<String>,
) {
    let end = tokio::time::Instant::now() + AFTERWARDS;
    loop {
        let mut lines = missing_logs(&case.logs, &stage.logs());
        lines.extend(wrong_metrics(case, stage, before).await);
        if lines.is_empty() || tokio::time::Instant::now() >= end {
            found.extend(lines);
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What of these texts no line holds.
pub(crate) fn missing_logs(parts: &[String], logs: &[String]) -> Vec<String> {
    let missing = parts
        .iter()
        .filter(|part| !logs.iter().any(|line| line.contains(part.as_str())));
    missing
        .map(|part| format!("no log line holds {part:?}: {logs:?}"))
        .collect()
}

async fn wrong_metrics(
    case: &Case,
    stage: &impl Stage,
    before: &BTreeMap<String, i64>,
) -> Vec<String> {
    if case.metrics.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = case.metrics.keys().map(String::as_str).collect();
    let now = stage.metrics(&names).await;
    let wrong = case.metrics.iter().filter_map(|(name, expected)| {
        let value = now
            .get(name)
            .map(|value| value - before.get(name).copied().unwrap_or(0));
        (value != Some(*expected))
            .then(|| format!("metric {name} is {value:?}, expected {expected}"))
    });
    wrong.collect()
}
