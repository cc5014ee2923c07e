//! What is said about Filters: whether they are valid, whether their references lead somewhere, whether they are loaded.

use tidegate_model::{FailureCause, FilterId, FilterVerdict, ModuleSource};

use super::Reading;
use crate::api::tidegate as api;
use crate::status::{Condition, ConditionStatus};
use crate::translate::context::Context;

/// Writes the statuses of all Filters, used or not. Comes last, when it is known which ones are used.
pub(in crate::translate) fn report(context: &mut Context<'_>) {
    for object in context.resources.filters.values() {
        let reading = super::reading(context, object);
        let used = context.filters.contains(&object.key().to_string());
        let id = FilterId {
            namespace: object.meta.namespace.as_str().into(),
            name: object.meta.name.as_str().into(),
        };
        let verdict = context.verdicts.get(&id);
        write(context, object, &reading, used, verdict);
    }
}

fn write(
    context: &mut Context<'_>,
    object: &api::Filter,
    reading: &Reading,
    used: bool,
    verdict: Option<&FilterVerdict>,
) {
    let generation = object.meta.generation;
    let status = context.statuses.of(object);
    status.set(match &reading.accepted {
        Ok(()) => Condition::yes("Accepted", "Accepted", "the Filter is valid", generation),
        Err(problem) => problem.condition("Accepted", generation),
    });
    status.set(match &reading.resolved {
        Ok(()) => Condition::yes(
            "ResolvedRefs",
            "ResolvedRefs",
            "every reference leads somewhere",
            generation,
        ),
        Err(problem) => problem.condition("ResolvedRefs", generation),
    });
    status.set(loaded(reading, used, verdict, generation));
    if let Some(FilterVerdict::Ready { digest, abi, image }) = verdict {
        status.digest = Some(digest.to_string());
        status.abi = Some(abi.to_string());
        status.image = image.as_ref().map(ToString::to_string);
    } else if let Some(known) = object.spec.pinned.as_ref().filter(|_| used)
        && reading.spec.pinned.is_some()
    {
        // Until it is loaded again, and however often this process ends before.
        status.digest = Some(known.digest.clone());
        status.image = Some(known.image.clone());
    }
    for warning in &reading.warnings {
        status.warn(warning.clone());
    }
}

/// Condition `Loaded`.
fn loaded(
    reading: &Reading,
    used: bool,
    verdict: Option<&FilterVerdict>,
    generation: i64,
) -> Condition {
    const LAST_GOOD: &str = "; the last version that worked goes on serving";
    let last_good = matches!(
        verdict,
        Some(FilterVerdict::Failed {
            last_good: true,
            ..
        })
    );
    if matches!(reading.spec.module, ModuleSource::Refused { .. }) {
        // Why is said there.
        let condition = if reading.accepted.is_err() {
            "Accepted"
        } else {
            "ResolvedRefs"
        };
        let mut message = format!("there is nothing to load: see condition {condition}");
        if last_good {
            message.push_str(LAST_GOOD);
        }
        return Condition::no("Loaded", "Failed", message, generation);
    }
    match verdict {
        Some(FilterVerdict::Ready { digest, abi, image }) => {
            let mut message = format!("module {digest}, ABI {abi}");
            if let Some(image) = image {
                message.push_str(&format!(", from {image}"));
            }
            Condition::yes("Loaded", "Ready", message, generation)
        }
        Some(FilterVerdict::Failed { cause, message, .. }) => {
            let step = match cause {
                FailureCause::Configure => "the module refuses its configuration",
                _ => "the module cannot be loaded",
            };
            let mut message = format!("{step}: {message}");
            if last_good {
                message.push_str(LAST_GOOD);
            }
            Condition::no("Loaded", "Failed", message, generation)
        }
        Some(FilterVerdict::Loading) => {
            unknown("Loading", "the module is being loaded", generation)
        }
        Some(FilterVerdict::NotFetched) => unknown(
            "NotFetched",
            "the module is elsewhere and was not fetched; tidegate check --fetch does",
            generation,
        ),
        None if used => unknown("Loading", "the module is about to be loaded", generation),
        None => unknown(
            "NotUsed",
            "no route that is served uses this Filter, so it is not loaded",
            generation,
        ),
    }
}

fn unknown(reason: &'static str, message: &str, generation: i64) -> Condition {
    Condition::new(
        "Loaded",
        ConditionStatus::Unknown,
        reason,
        message,
        generation,
    )
}
