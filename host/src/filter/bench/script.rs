//! A case to measure: its request, and answers to the calls that the filter makes, which are there at once.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_filter_cases::{Answer, Call, Case, Failure as CallFailure, GrpcEnd, Head};
use tidegate_model::ResponseHead;
use tidegate_wasm::{Effect, Failure, HttpCallResponse, Vm};

use crate::filter::arguments::Bench;
use crate::filter::test::Subject;

/// The case that is named, if one is.
///
/// # Errors
/// Cases that cannot be read or that are about something else than what is measured.
pub(super) fn case(arguments: &Bench) -> anyhow::Result<Option<Case>> {
    let Some(name) = &arguments.case else {
        return Ok(None);
    };
    let subject = Subject::named(&arguments.module, arguments.cases.as_deref())?;
    let mut cases = subject.cases.into_iter();
    let case = cases
        .find(|case| case.name == *name)
        .with_context(|| format!("--case {name:?}: no case has this name"))?;
    let [exchange] = &case.exchanges()[..] else {
        bail!("--case {name:?}: only a case with one request can be measured");
    };
    let request = &exchange.request;
    let needs = if request.body.is_some() {
        Some("a body")
    } else if request.client_certificate.is_some() || !request.properties.is_empty() {
        Some("properties of its connection")
    } else {
        case.clock.is_some().then_some("a time of its own")
    };
    match needs {
        Some(needs) => bail!("--case {name:?}: its request has {needs}, which is not measured"),
        None => Ok(Some(case)),
    }
}

/// Answers to the calls of a request, in their order.
#[derive(Default)]
pub(super) struct Script {
    /// Places that are called.
    pub(super) clusters: BTreeSet<String>,
    answers: Vec<Scripted>,
}

enum Scripted {
    Http(HttpCallResponse),
    Message(Bytes),
    Status(u32, String),
}

impl Script {
    /// # Errors
    /// An answer that cannot be given.
    pub(super) fn of(case: &Case) -> anyhow::Result<Self> {
        let mut script = Self::default();
        for call in case.exchanges().iter().flat_map(|exchange| &exchange.calls) {
            script.clusters.insert(call.cluster.clone());
            let answer = Scripted::to(call)
                .with_context(|| format!("--case {:?}: a call to {:?}", case.name, call.cluster))?;
            script.answers.push(answer);
        }
        Ok(script)
    }

    /// Gives the answer to a call, the `at`th of a request. One that is not expected gets none.
    pub(super) fn answer(&self, vm: &mut Vm, effect: &Effect, at: usize) -> Result<(), Failure> {
        match (effect, self.answers.get(at)) {
            (Effect::HttpCall { token, .. }, Some(Scripted::Http(response))) => {
                vm.on_http_call_response(*token, response.clone())
            }
            (Effect::GrpcCall { target, .. }, Some(Scripted::Message(message))) => {
                vm.on_grpc_receive(target.token, message.clone())
            }
            (Effect::GrpcCall { target, .. }, Some(Scripted::Status(status, message))) => {
                vm.on_grpc_close(target.token, *status, message.clone())
            }
            _ => Ok(()),
        }
    }
}

impl Scripted {
    fn to(call: &Call) -> anyhow::Result<Self> {
        if call.grpc.is_none() {
            return Ok(Self::Http(response(&call.answer)?));
        }
        Ok(match call.grpc_end().map_err(anyhow::Error::msg)? {
            GrpcEnd::Message(message) => Self::Message(message.into()),
            GrpcEnd::Status(status, message) => Self::Status(status, message),
            GrpcEnd::Fails(_) => Self::Status(14, String::new()),
        })
    }
}

/// A call that fails looks as in Envoy, without the text.
fn response(answer: &Answer) -> anyhow::Result<HttpCallResponse> {
    let status = match answer.fails {
        Some(CallFailure::Unreachable) => 503,
        Some(CallFailure::Timeout) => 504,
        None => answer.status.unwrap_or(200),
    };
    let mut headers = HeaderMap::new();
    append(&mut headers, &answer.headers)?;
    let body = answer.body.as_ref();
    Ok(HttpCallResponse {
        head: ResponseHead {
            status: StatusCode::from_u16(status)?,
            headers,
        },
        body: body
            .map(|body| body.pieces().concat())
            .unwrap_or_default()
            .into(),
        trailers: HeaderMap::new(),
    })
}

/// Puts the headers of a case in the place of those of the same names.
pub(super) fn append(
    headers: &mut HeaderMap,
    given: &std::collections::BTreeMap<String, Head>,
) -> anyhow::Result<()> {
    for (name, values) in given {
        let name = HeaderName::try_from(name).with_context(|| format!("header {name:?}"))?;
        headers.remove(&name);
        for value in values.values() {
            let value = HeaderValue::try_from(&value)
                .with_context(|| format!("header {name}: {value:?}"))?;
            headers.append(&name, value);
        }
    }
    Ok(())
}
