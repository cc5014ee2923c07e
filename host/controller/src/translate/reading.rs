//! What reading the objects taught, put where people look: among the errors and on the objects.

use super::context::Context;
use crate::status::SourceError;

/// Writes errors and warnings of reading; called last, when every object that has a status has one.
pub(super) fn report(context: &mut Context<'_>) {
    let resources = context.resources;
    for rejected in &resources.rejected {
        let problems: Vec<String> = rejected.errors.iter().map(ToString::to_string).collect();
        let kept = if rejected.last_good_kept {
            "; the version before it goes on serving"
        } else {
            ""
        };
        context.statuses.errors.push(SourceError {
            source: rejected.source.to_string(),
            message: format!("{rejected}: {}{kept}", problems.join("; ")),
        });
    }
    for problem in &resources.errors {
        context.statuses.errors.push(SourceError {
            source: problem.source.to_string(),
            message: problem.message.clone(),
        });
    }
    context.statuses.errors.sort();
    for (id, warnings) in &resources.warnings {
        match context.statuses.objects.get_mut(&(id.kind, id.key.clone())) {
            Some(status) => warnings.iter().for_each(|warning| status.warn(warning)),
            None => {
                let named = warnings
                    .iter()
                    .map(|warning| format!("{} {}: {warning}", id.kind, id.key));
                context.warnings.extend(named);
            }
        }
    }
    for ignored in &resources.ignored {
        context.warnings.push(format!(
            "kind {} of {} is not read: {} of them, the first at {}",
            ignored.kind, ignored.api_version, ignored.count, ignored.first
        ));
    }
}
