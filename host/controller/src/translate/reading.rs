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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidegate_model::FilterVerdicts;

    use crate::api::{Key, Kind, Source};
    use crate::resources::{IgnoredKind, ObjectId, Problem, Rejected, Resources};
    use crate::schema::FieldError;
    use crate::translate::{Options, translate};

    #[test]
    fn errors_and_warnings_of_reading_are_shown() {
        let place = |line| Source::file(Path::new("a.yaml"), line);
        let mut resources = Resources::default();
        resources.rejected.push(Rejected {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            source: place(3),
            errors: vec![FieldError {
                path: "spec.rules[0].name".to_owned(),
                message: "is too long".to_owned(),
            }],
            last_good_kept: true,
        });
        resources.errors.push(Problem {
            source: place(1),
            message: "not YAML".to_owned(),
        });
        let id = ObjectId {
            kind: Kind::HttpRoute,
            key: Key::new("shop", "other"),
        };
        resources
            .warnings
            .insert(id, vec!["old version".to_owned()]);
        resources.ignored.push(IgnoredKind {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            first: place(9),
            count: 2,
        });
        let translation = translate(&resources, &FilterVerdicts::default(), &Options::default());
        let errors: Vec<_> = translation
            .statuses
            .errors
            .iter()
            .map(|e| (e.source.as_str(), e.message.as_str()))
            .collect();
        assert_eq!(
            errors,
            [
                ("a.yaml:1", "not YAML"),
                (
                    "a.yaml:3",
                    "HTTPRoute shop/cart: spec.rules[0].name: is too long; the version before it goes on serving"
                ),
            ]
        );
        assert_eq!(
            translation.warnings,
            [
                "HTTPRoute shop/other: old version",
                "kind Deployment of apps/v1 is not read: 2 of them, the first at a.yaml:9"
            ]
        );
    }
}
