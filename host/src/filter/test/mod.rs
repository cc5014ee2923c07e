//! `tidegate filter test`: the cases of a filter on the data plane that serves, and the same ones in a real Envoy.
//!
//! ```text
//!   cases.yaml ─► Subject ─► Run (a case, and how its bodies are cut) ─┬─► here: Gateways, one for each run, in this process ─┐
//!                                                                      └─► envoy: listeners, one for each run, in a process ─┤
//!          World: the scripted upstream and call-out servers of a run ─── exchange: a client by the byte ────────────────────┤
//!                                                                                                                            ▼
//!                                                                          Outcome (what was not as expected) ─► report
//! ```
//!
//! Each run has a filter, servers and a listener of its own, so that nothing of one is left for the next.

mod client;
mod cut;
mod envoy;
mod exchange;
mod grpc;
mod guests;
mod here;
mod identities;
mod plan;
mod report;
mod subject;
mod world;

use anyhow::bail;
pub(crate) use guests::Guests;
pub(crate) use subject::{Subject, names as bundled_names};

use super::arguments::Test;
use crate::{FINE, REFUSED};
use here::Here;
use plan::Plan;
use report::Row;

/// Runs the cases. The status is 1 where one is not as expected in either host.
pub(crate) fn run(arguments: &Test) -> anyhow::Result<u8> {
    let subjects = Subject::all(arguments)?;
    let plans: Vec<Plan> = subjects
        .into_iter()
        .map(|subject| Plan::new(subject, arguments.only.as_deref()))
        .collect();
    if let Some(only) = &arguments.only
        && plans.iter().all(|plan| plan.cases.is_empty())
    {
        bail!("--only {only:?}: no case has this in its name");
    }
    let rows = if arguments.list {
        plans.iter().map(Row::planned).collect()
    } else {
        run_all(arguments, &plans)?
    };
    report::print(&rows, arguments)?;
    Ok(if rows.iter().all(Row::is_fine) {
        FINE
    } else {
        REFUSED
    })
}

fn run_all<'a>(arguments: &Test, plans: &'a [Plan]) -> anyhow::Result<Vec<Row<'a>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cases")
        // Filters are tried out on these threads, and guests may use a megabyte of stack.
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()?;
    let rows = runtime.block_on(async {
        let mut here = Here::start().await?;
        let mut rows = Vec::new();
        for plan in plans {
            let mut row = Row::planned(plan);
            row.ran_here(here.run(plan).await?);
            if let Some(program) = &arguments.envoy {
                row.ran_in_envoy(envoy::run(plan, program).await?);
            }
            rows.push(row);
        }
        Ok(rows)
    });
    runtime.shutdown_background();
    rows
}
