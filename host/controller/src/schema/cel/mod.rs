//! `x-kubernetes-validations`: rules in CEL, with the libraries an API server has for them as far as rules
//! of the Gateway API and our own use them.

mod functions;
mod regexes;
mod value;

use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use super::errors::Errors;
use super::node::{Node, Type};
use crate::api::path::FieldPath;

pub(crate) use regexes::go_regex;

/// One entry of `x-kubernetes-validations`, compiled when it is first needed.
#[derive(Debug)]
pub(crate) struct Rule {
    source: String,
    message: Option<String>,
    message_expression: Option<String>,
    reason: Reason,
    /// Where errors are reported instead of at the value itself.
    field: String,
    compiled: OnceLock<Result<Compiled, String>>,
}

#[derive(Debug)]
enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

#[derive(Debug)]
enum Compiled {
    /// Compares with the object before a change; there is none here.
    Transition,
    Check(Box<Check>),
}

#[derive(Debug)]
struct Check {
    rule: Program,
    message: Option<Program>,
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(functions::environment()));

/// Evaluates the rules of a schema at every level of a value that already has the schema's shape.
pub(crate) fn check(node: &Node, value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if value.is_null() {
        return;
    }
    if !node.rules.is_empty() {
        check_rules(node, value, path, errors);
    }
    for child in &node.all_of {
        check(child, value, path, errors);
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(child) = node.properties.get(name) {
                    check(child, field, &path.field(name), errors);
                } else if let Some(child) = &node.additional {
                    check(child, field, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    check(child, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_rules(node: &Node, value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_as_val("self", value::of(value));
    let type_name = node.types.first().map_or("", |t: &Type| t.name());
    for rule in &node.rules {
        match rule.verdict(&context) {
            Ok(true) => {}
            Ok(false) => rule.report(value, &context, path, errors),
            Err(error) => errors.invalid_text(
                path,
                type_name,
                &format!("{error} evaluating rule: {}", rule.message()),
            ),
        }
    }
}

// === impl Rule ===

impl Rule {
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            source: text("rule").ok_or("a validation needs a rule")?,
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: match text("reason").as_deref() {
                None | Some("FieldValueInvalid") => Reason::Invalid,
                Some("FieldValueForbidden") => Reason::Forbidden,
                Some("FieldValueRequired") => Reason::Required,
                Some("FieldValueDuplicate") => Reason::Duplicate,
                Some(other) => return Err(format!("unknown reason {other}")),
            },
            field: text("fieldPath").unwrap_or_default(),
            compiled: OnceLock::new(),
        })
    }

    fn verdict(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        match self.compiled()? {
            Compiled::Transition => Ok(true),
            Compiled::Check(check) => match evaluate(&check.rule, context) {
                Ok(verdict) => verdict
                    .downcast_ref::<CelBool>()
                    .map(|verdict| *verdict.inner())
                    .ok_or_else(|| "the rule is not a condition".to_owned()),
                Err(error) => Err(told(&error)),
            },
        }
    }

    fn report(
        &self,
        value: &Value,
        context: &Context<'_, '_>,
        path: &FieldPath<'_>,
        errors: &mut Errors,
    ) {
        let computed = match self.compiled() {
            Ok(Compiled::Check(check)) => check
                .message
                .as_ref()
                .and_then(|expression| evaluate(expression, context).ok())
                .and_then(|text| Some(text.downcast_ref::<CelString<'_>>()?.inner().to_owned())),
            _ => None,
        };
        let message = computed.unwrap_or_else(|| self.message());
        let place = format!("{path}{}", self.field);
        match self.reason {
            Reason::Required => errors.required(place, &message),
            Reason::Forbidden => errors.forbidden(place, &message),
            Reason::Duplicate => errors.duplicate(place, value),
            // The value itself would drown the message.
            Reason::Invalid if value.is_object() || value.is_array() => {
                errors.push(place, format!("Invalid value: {message}"));
            }
            Reason::Invalid => errors.invalid(place, value, &message),
        }
    }

    fn message(&self) -> String {
        match &self.message {
            Some(message) => message.trim().to_owned(),
            None => format!("failed rule: {}", self.source.trim()),
        }
    }

    fn compiled(&self) -> Result<&Compiled, String> {
        let compile = || {
            let rule = program(&self.source)?;
            if rule.references().has_variable("oldSelf") {
                return Ok(Compiled::Transition);
            }
            let message = self
                .message_expression
                .as_deref()
                .map(program)
                .transpose()?;
            Ok(Compiled::Check(Box::new(Check { rule, message })))
        };
        self.compiled
            .get_or_init(compile)
            .as_ref()
            .map_err(|error| format!("rule compile error: {error}"))
    }
}

fn program(source: &str) -> Result<Program, String> {
    ENVIRONMENT
        .compile(source)
        .map_err(|error| error.to_string())
}

fn evaluate<'e, 'v>(
    program: &'e Program,
    context: &'e Context<'_, 'v>,
) -> Result<CowVal<'e, 'v>, ExecutionError> {
    cel::Value::resolve_val(program.expression(), context)
}

/// An error as an API server words it.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::FunctionError { function, .. } if function == "duration" => {
            "type conversion error from 'string' to 'google.protobuf.Duration'".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
