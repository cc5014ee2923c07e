//! `tidegate check`: what a folder of manifests would serve, and everything that is wrong with it, without a socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use tidegate_controller::manifests;
use tidegate_controller::translate::{Options, Translation};
use tidegate_model::{FilterVerdict, FilterVerdicts};
use tidegate_modules::{Loader, Settings};
use tidegate_wasm::Shared;

use crate::args::{Binding, Check, Manifests, Output};
use crate::{FINE, REFUSED};

/// How long loading all filters may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a folder comes to.
pub(crate) struct Checked {
    pub(crate) translation: Translation,
}

/// `tidegate check`
pub(crate) fn run(arguments: &Check) -> anyhow::Result<u8> {
    let what = Load::Everything {
        fetch: arguments.fetch,
    };
    let checked = translate(&arguments.manifests, &arguments.binding, what)?;
    let problems = problems(&checked.translation);
    match arguments.output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&status(1, &checked.translation))?
        ),
        Output::Text => print_text(&checked, &problems),
    }
    Ok(if problems.iter().any(|problem| problem.refused) {
        REFUSED
    } else {
        FINE
    })
}

/// Which filters are loaded.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Those that a route uses and whose module is at hand.
    Used,
    /// All of them, those at hand or also those that must be fetched.
    Everything { fetch: bool },
}

/// Reads, loads and translates.
pub(crate) fn translate(
    manifests: &Manifests,
    binding: &Binding,
    what: Load,
) -> anyhow::Result<Checked> {
    let options = options(binding)?;
    readable(&manifests.manifests)?;
    let resources = manifests::Manifests::new(&manifests.manifests)
        .reload()
        .resources;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()?;
    let translation = runtime.block_on(async {
        let first =
            tidegate_controller::translate::translate(&resources, &FilterVerdicts::new(), &options);
        let verdicts = verdicts(&first, what).await;
        tidegate_controller::translate::translate(&resources, &verdicts, &options)
    });
    runtime.shutdown_background();
    Ok(Checked { translation })
}

/// Loads filters once.
async fn verdicts(translation: &Translation, what: Load) -> FilterVerdicts {
    let settings = Settings {
        network: matches!(what, Load::Everything { fetch: true }),
        ..Settings::default()
    };
    let mut wanted = translation.snapshot.filters.clone();
    if matches!(what, Load::Everything { .. }) {
        wanted.extend(translation.unused.iter().cloned());
    }
    let loader = Loader::with(Shared::new(), &settings);
    let mut changes = loader.changes();
    loader.want(&wanted);
    let all = async {
        while loader
            .verdicts()
            .values()
            .any(|verdict| *verdict == FilterVerdict::Loading)
        {
            if changes.changed().await.is_err() {
                break;
            }
        }
    };
    // What is not known by then is reported as loading.
    let _ = tokio::time::timeout(PATIENCE, all).await;
    loader.verdicts()
}

/// Wrong paths are wrong usage, not an empty configuration.
pub(crate) fn readable(paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        if let Err(error) = std::fs::metadata(path) {
            bail!(
                "--manifests {}: {error}; name a file or folder of manifests",
                path.display()
            );
        }
    }
    Ok(())
}

/// The settings of a process without a cluster.
///
/// # Errors
/// Ports that contradict each other.
pub(crate) fn options(binding: &Binding) -> anyhow::Result<Options> {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    Ok(Options {
        controller_name: binding.controller_name.clone(),
        bind: binding.bind.clone(),
        port_map: binding.ports()?,
        http_port: binding.http_port,
        https_port: binding.https_port,
        ingress_nginx_annotations: binding.ingress_nginx_annotations,
        now: now.ok().and_then(|now| i64::try_from(now.as_secs()).ok()),
        ..Options::default()
    })
}

/// The admin page `/status`.
pub(crate) fn status(generation: u64, translation: &Translation) -> Value {
    let mut value = serde_json::to_value(&translation.statuses).unwrap_or_default();
    let mut page = json!({"generation": generation});
    if let (Some(page), Some(rest)) = (page.as_object_mut(), value.as_object_mut()) {
        page.append(rest);
    }
    page
}

struct Problem {
    refused: bool,
    text: String,
}

/// What is wrong or deserves attention, an object at a time.
fn problems(translation: &Translation) -> Vec<Problem> {
    let value = status(1, translation);
    let mut problems = Vec::new();
    for error in value["errors"].as_array().into_iter().flatten() {
        let text = format!("{}: {}", text(&error["source"]), text(&error["message"]));
        problems.push(Problem {
            refused: true,
            text,
        });
    }
    for object in value["objects"].as_array().into_iter().flatten() {
        let name = format!(
            "{}: {} {}",
            text(&object["source"]),
            text(&object["kind"]),
            [text(&object["namespace"]), text(&object["name"])]
                .iter()
                .filter(|t| !t.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join("/"),
        );
        let mut of = |conditions: &Value, place: &str| {
            for condition in conditions
                .as_array()
                .into_iter()
                .flatten()
                .filter(|c| is_bad(c))
            {
                let text = format!(
                    "{name}{place}: {}={} {}: {}",
                    text(&condition["type"]),
                    text(&condition["status"]),
                    text(&condition["reason"]),
                    text(&condition["message"])
                );
                problems.push(Problem {
                    refused: true,
                    text,
                });
            }
        };
        of(&object["conditions"], "");
        for parent in object["parents"].as_array().into_iter().flatten() {
            of(
                &parent["conditions"],
                &format!(" (parent {})", text(&parent["parentRef"]["name"])),
            );
        }
        for listener in object["listeners"].as_array().into_iter().flatten() {
            of(
                &listener["conditions"],
                &format!(" (listener {})", text(&listener["name"])),
            );
        }
        for condition in object["conditions"].as_array().into_iter().flatten() {
            // Nothing is wrong, but nothing is known either.
            if condition["reason"] == "NotFetched" {
                problems.push(Problem {
                    refused: false,
                    text: format!("{name}: {}", text(&condition["message"])),
                });
            }
        }
        for warning in object["warnings"].as_array().into_iter().flatten() {
            problems.push(Problem {
                refused: false,
                text: format!("{name}: {}", text(warning)),
            });
        }
    }
    problems
}

/// A condition that says something is wrong. `Conflicted` and `OverlappingTLSConfig` are good when false.
fn is_bad(condition: &Value) -> bool {
    let negative = matches!(
        condition["type"].as_str(),
        Some("Conflicted" | "OverlappingTLSConfig" | "PartiallyInvalid")
    );
    condition["status"] == if negative { "True" } else { "False" }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(
        || {
            if value.is_null() {
                String::new()
            } else {
                value.to_string()
            }
        },
        str::to_owned,
    )
}

fn print_text(checked: &Checked, problems: &[Problem]) {
    for problem in problems {
        println!(
            "{} {}",
            if problem.refused {
                "refused"
            } else {
                "warning"
            },
            problem.text
        );
    }
    let snapshot = &checked.translation.snapshot;
    let refused = problems.iter().filter(|problem| problem.refused).count();
    println!(
        "{} listeners, {} filters, {} backends; {refused} refused, {} warnings",
        snapshot.listeners.len(),
        snapshot.filters.len(),
        snapshot.backends.len(),
        problems.len() - refused,
    );
}
