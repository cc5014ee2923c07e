//! Functions that Kubernetes adds to CEL (<https://kubernetes.io/docs/reference/using-api/cel/>): those on
//! addresses, URLs, regular expressions and named formats. `matches` of the standard library is replaced
//! by one that compiles a pattern once.

use std::any::Any;

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel::common::types::{CelBool, CelList, CelOptional, CelString, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::parser::{Macro, MacroExprHelper, ParseError};
use cel::{Env, ExecutionError, extensions};
use ipnet::IpNet;

use super::regexes;
use crate::schema::formats::{Format, is_uri};
use crate::schema::names;

type Args<'b, 'v> = [CowVal<'b, 'v>];
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// What `matches` becomes; no rule can spell it.
const MATCHES: &str = "@matches";

static NAMED_FORMAT: Type = Type::new_unspecified_type("kubernetes.NamedFormat");

/// The standard library, strings, and the functions of this module.
pub(super) fn environment() -> Env {
    let mut env = Env::stdlib();
    extensions::strings(&mut env).expect("nothing of that name is declared yet");
    declare(&mut env).expect("nothing of that name is declared yet");
    env
}

fn declare(env: &mut Env) -> Result<(), cel::DeclarationError> {
    env.add_macro(Macro::receiver("matches", 1, cached_matches))?;
    env.add_macro(Macro::global("matches", 2, cached_matches))?;
    let text = || STRING_TYPE.to_owned();
    env.add_overload(MATCHES, "cached_matches", vec![text(), text()], |args| {
        matches(&args)
    })?;
    env.add_member_overload("find", "string_find", text(), vec![text()], |args| {
        find(&args)
    })?;
    env.add_member_overload("findAll", "string_find_all", text(), vec![text()], |args| {
        find_all(&args)
    })?;
    env.add_member_overload(
        "findAll",
        "string_find_all_limit",
        text(),
        vec![text(), INT_TYPE.to_owned()],
        |args| find_all(&args),
    )?;
    env.add_overload("isIP", "is_ip", vec![text()], |args| {
        verdict(&args, |v| names::ip(v).is_empty())
    })?;
    env.add_overload("isCIDR", "is_cidr", vec![text()], |args| {
        verdict(&args, |v| v.parse::<IpNet>().is_ok())
    })?;
    env.add_overload("isURL", "is_url", vec![text()], |args| {
        verdict(&args, is_uri)
    })?;
    env.add_type(NAMED_FORMAT.to_owned())?;
    env.add_overload("format.named", "format_named", vec![text()], |args| {
        let found = NamedFormat::of(argument(&args, 0)?);
        Ok(CowVal::owned(
            found.map_or_else(CelOptional::none, |format| {
                CelOptional::of(Box::new(format))
            }),
        ))
    })?;
    env.add_member_overload(
        "validate",
        "format_validate",
        NAMED_FORMAT.to_owned(),
        vec![text()],
        |args| validate(&args),
    )?;
    // An overload is a plain function, so each name needs its own.
    macro_rules! named {
        ($($name:literal => $format:ident),* $(,)?) => {
            $(env.add_overload(concat!("format.", $name), concat!("format_", $name), vec![], |_| {
                Ok(CowVal::owned(NamedFormat::$format))
            })?;)*
        };
    }
    named! {
        "dns1123Label" => Dns1123Label,
        "dns1123Subdomain" => Dns1123Subdomain,
        "dns1035Label" => Dns1035Label,
        "qualifiedName" => QualifiedName,
        "labelValue" => LabelValue,
        "uri" => Uri,
        "uuid" => Uuid,
        "byte" => Byte,
        "date" => Date,
        "datetime" => DateTime,
    }
    Ok(())
}

/// Rewrites `x.matches(y)` and `matches(x, y)`.
fn cached_matches(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Result<Option<IdedExpr>, ParseError> {
    let mut operands: Vec<_> = target.take().into_iter().collect();
    operands.append(args);
    Ok(Some(helper.next_expr(Expr::Call(CallExpr {
        func_name: MATCHES.to_owned(),
        target: None,
        args: operands,
    }))))
}

fn matches<'b, 'v>(args: &Args<'b, 'v>) -> Answer<'b, 'v> {
    let regex = compiled(argument(args, 1)?)?;
    verdict(args, |text| regex.is_match(text))
}

fn find<'b, 'v>(args: &Args<'b, 'v>) -> Answer<'b, 'v> {
    let found = compiled(argument(args, 1)?)?
        .find(argument(args, 0)?)
        .map_or_else(String::new, |m| m.as_str().to_owned());
    Ok(CowVal::owned(CelString::from(found)))
}

fn find_all<'b, 'v>(args: &Args<'b, 'v>) -> Answer<'b, 'v> {
    let limit = args
        .get(2)
        .and_then(|limit| limit.downcast_ref::<cel::common::types::CelInt>())
        .map_or(usize::MAX, |limit| {
            usize::try_from(*limit.inner()).unwrap_or(usize::MAX)
        });
    let found: Vec<Box<dyn Val>> = compiled(argument(args, 1)?)?
        .find_iter(argument(args, 0)?)
        .take(limit)
        .map(|m| Box::new(CelString::from(m.as_str().to_owned())) as Box<dyn Val>)
        .collect();
    Ok(CowVal::owned(CelList::from(found)))
}

fn compiled(pattern: &str) -> Result<std::sync::Arc<regex::Regex>, ExecutionError> {
    regexes::cached(pattern).map_err(|error| ExecutionError::function_error("matches", error))
}

fn verdict<'b, 'v>(args: &[CowVal<'b, 'v>], accepts: impl Fn(&str) -> bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(accepts(argument(args, 0)?))))
}

fn argument<'a>(args: &'a [CowVal<'_, '_>], index: usize) -> Result<&'a str, ExecutionError> {
    args.get(index)
        .and_then(|arg| arg.downcast_ref::<CelString<'_>>())
        .map(|text| text.inner())
        .ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// `format.dns1123Label()` and its like: something that validates text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NamedFormat {
    Dns1123Label,
    Dns1123Subdomain,
    Dns1035Label,
    QualifiedName,
    LabelValue,
    Uri,
    Uuid,
    Byte,
    Date,
    DateTime,
}

impl NamedFormat {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "dns1123Label" => Self::Dns1123Label,
            "dns1123Subdomain" => Self::Dns1123Subdomain,
            "dns1035Label" => Self::Dns1035Label,
            "qualifiedName" => Self::QualifiedName,
            "labelValue" => Self::LabelValue,
            "uri" => Self::Uri,
            "uuid" => Self::Uuid,
            "byte" => Self::Byte,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            _ => return None,
        })
    }

    fn errors(self, text: &str) -> Vec<String> {
        let format = match self {
            Self::Dns1123Label => return names::dns1123_label(text),
            Self::Dns1123Subdomain => return names::dns1123_subdomain(text),
            Self::Dns1035Label => return names::dns1035_label(text),
            Self::QualifiedName => return names::label_key(text),
            Self::LabelValue => return names::label_value(text),
            Self::Uri => Format::Uri,
            Self::Uuid => Format::Uuid,
            Self::Byte => Format::Byte,
            Self::Date => Format::Date,
            Self::DateTime => Format::DateTime,
        };
        if format.accepts(text) {
            Vec::new()
        } else {
            vec![format!("invalid {}", format.name())]
        }
    }
}

impl Val for NamedFormat {
    fn get_type(&self) -> &Type {
        &NAMED_FORMAT
    }

    fn cel_type() -> &'static Type {
        &NAMED_FORMAT
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>() == Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for NamedFormat {}

/// `optional.none()` when the text is fine, else its errors.
fn validate<'b, 'v>(args: &Args<'b, 'v>) -> Answer<'b, 'v> {
    let format = args
        .first()
        .and_then(|format| format.downcast_ref::<NamedFormat>())
        .ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let errors = format.errors(argument(args, 1)?);
    if errors.is_empty() {
        return Ok(CowVal::owned(CelOptional::none()));
    }
    let errors: Vec<Box<dyn Val>> = errors
        .into_iter()
        .map(|error| Box::new(CelString::from(error)) as Box<dyn Val>)
        .collect();
    Ok(CowVal::owned(CelOptional::of(Box::new(CelList::from(
        errors,
    )))))
}
