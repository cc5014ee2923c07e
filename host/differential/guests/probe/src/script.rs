//! Runs scripts.

use serde_json::Value;

use crate::{format, hostcalls, pairs, state};

/// Where a script runs.
pub(crate) struct Place {
    pub(crate) context: u32,
    pub(crate) root: u32,
    pub(crate) end_of_stream: bool,
    /// How often this callback has run in this context before.
    pub(crate) before: usize,
}

/// Where results of a hostcall come to stand.
struct Out {
    kind: char,
    at: Option<i64>,
    cells: Box<[u64; 2]>,
}

/// Runs operations in turn; what `return` says, if it is reached.
pub(crate) fn run(operations: &Value, place: &Place) -> Option<u32> {
    for operation in operations.as_array().into_iter().flatten() {
        let parts = operation.as_array().map(Vec::as_slice).unwrap_or_default();
        let [name, arguments @ ..] = parts else {
            panic!("not an operation: {operation}")
        };
        let name = name.as_str().unwrap_or_default();
        let inner = match name {
            "return" => return Some(number(&arguments[0], place) as u32),
            "end" => arguments.get(usize::from(!place.end_of_stream)),
            "nth" => arguments.get(place.before.min(arguments.len() - 1)),
            "by" => {
                let value = hostcalls::header(arguments[0].as_str().unwrap_or_default());
                let value = String::from_utf8_lossy(&value).into_owned();
                arguments[1].get(&value).or_else(|| arguments[1].get("*"))
            }
            _ => {
                single(name, arguments, place);
                None
            }
        };
        if let Some(value) = inner.and_then(|inner| run(inner, place)) {
            return Some(value);
        }
    }
    None
}

/// An operation that decides nothing.
fn single(name: &str, arguments: &[Value], place: &Place) {
    let text = |at: usize| arguments[at].as_str().unwrap_or_default();
    match name {
        "let" => {
            let operation = arguments[1]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let value = hostcall(
                operation[0].as_str().unwrap_or_default(),
                &operation[1..],
                place,
            );
            state::with(|state| state.variables.insert(text(0).to_owned(), value));
        }
        "print" => println!("{}", text(0)),
        "eprint" => eprintln!("{}", text(0)),
        "env" => hostcalls::log(&format!(
            "  env({}) = {:?}",
            text(0),
            std::env::var(text(0)).ok()
        )),
        "environment" => {
            let all: std::collections::BTreeMap<String, String> = std::env::vars().collect();
            hostcalls::log(&format!(
                "  environment = {all:?}, arguments = {}",
                std::env::args().count()
            ));
        }
        "trap" => core::arch::wasm32::unreachable(),
        "exit" => std::process::exit(number(&arguments[0], place) as i32),
        "overflow" => hostcalls::log(&overflow(1).to_string()),
        "sleep" => std::thread::sleep(std::time::Duration::from_millis(
            number(&arguments[0], place) as u64,
        )),
        _ => {
            hostcall(name, arguments, place);
        }
    }
}

/// Uses up the stack.
fn overflow(depth: u64) -> u64 {
    if std::hint::black_box(depth) == 0 {
        return 0;
    }
    std::hint::black_box(overflow(depth + 1)) + depth
}

/// Makes a hostcall and logs what came of it; its first number, for `let`.
fn hostcall(name: &str, given: &[Value], place: &Place) -> i64 {
    let (called, kinds) = match name {
        "property_map" => ("property", Some("SP")),
        "has_property" => ("property", Some("SH")),
        _ => (name, hostcalls::kinds(name)),
    };
    let Some(kinds) = kinds else {
        panic!("no operation {name}")
    };
    let mut given_left = given.iter();
    let (mut wire, mut kept, mut outs) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds.chars() {
        match kind {
            'm' | 'b' | 'i' | 'l' => wire.push(match given_left.next() {
                Some(value) if kind == 'm' => named(value, &MAPS, place),
                Some(value) if kind == 'b' => named(value, &BUFFERS, place),
                Some(value) => number(value, place),
                None => 0,
            }),
            's' | 'S' | 'p' => {
                let (pointer, size, bytes) = bytes(given_left.next().unwrap_or(&Value::Null), kind);
                wire.extend([pointer, size]);
                kept.push(bytes);
            }
            _ => {
                let at = given_left
                    .clone()
                    .next()
                    .and_then(|value| value.get("at"))
                    .and_then(Value::as_i64);
                if at.is_some() {
                    given_left.next();
                }
                let mut cells = Box::new([0_u64; 2]);
                let own = cells.as_mut_ptr() as i64;
                wire.push(at.unwrap_or(own));
                if matches!(kind, 'O' | 'P' | 'H') {
                    wire.push(at.unwrap_or(own + 8));
                }
                outs.push(Out { kind, at, cells });
            }
        }
    }
    let status = hostcalls::call(called, &wire);
    let shown: Vec<String> = given.iter().map(short).collect();
    let mut line = format!(
        "  {name}({}) = {}",
        shown.join(", "),
        format::status(status)
    );
    let mut first = 0;
    if status == 0 {
        for out in outs {
            let (text, value) = out.read(name);
            line = format!("{line} {text}");
            first = if first == 0 { value } else { first };
        }
    }
    if name != "log" {
        hostcalls::log(&line);
    }
    first
}

impl Out {
    fn read(self, name: &str) -> (String, i64) {
        if self.at.is_some() {
            return ("(elsewhere)".into(), 0);
        }
        // The host writes behind the compiler's back.
        let cells: [u64; 2] =
            std::array::from_fn(|at| unsafe { (&raw const self.cells[at]).read_volatile() });
        match self.kind {
            'o' => (cells[0].to_string(), cells[0] as i64),
            't' => (
                (if cells[0] > 0 { "(a number)" } else { "0" }).into(),
                cells[0] as i64,
            ),
            'q' if name == "time" => ((if cells[0] > 0 { "(a time)" } else { "0" }).into(), 0),
            'q' => (cells[0].to_string(), cells[0] as i64),
            kind => {
                // SAFETY: the host has just written both, and nobody else takes them.
                let value = unsafe { hostcalls::take(cells[0] as u32, cells[1] as u32) };
                let text = match kind {
                    'P' => format::map(&value),
                    'H' => format!("({} bytes)", value.len()),
                    _ => format::bytes(&value),
                };
                (text, 0)
            }
        }
    }
}

const MAPS: [&str; 8] = [
    "request",
    "request_trailers",
    "response",
    "response_trailers",
    "grpc_initial",
    "grpc_trailing",
    "callout",
    "callout_trailers",
];
const BUFFERS: [&str; 9] = [
    "request",
    "response",
    "downstream",
    "upstream",
    "callout",
    "grpc",
    "vm_config",
    "config",
    "foreign",
];

fn named(value: &Value, names: &[&str], place: &Place) -> i64 {
    let known = value
        .as_str()
        .and_then(|name| names.iter().position(|known| *known == name));
    known.map_or_else(|| number(value, place), |at| at as i64)
}

fn number(value: &Value, place: &Place) -> i64 {
    match value.as_str() {
        Some("$context") => place.context.into(),
        Some("$root") => place.root.into(),
        Some("$stream") => state::with(|state| state.stream).into(),
        Some(name) => {
            state::with(|state| state.variables.get(name.trim_start_matches('$')).copied())
                .unwrap_or_else(|| panic!("no variable {name}"))
        }
        None => value
            .as_i64()
            .unwrap_or_else(|| panic!("not a number: {value}")),
    }
}

/// Pointer and size of a value, and the value itself, to be kept until the call is over.
fn bytes(value: &Value, kind: char) -> (i64, i64, Vec<u8>) {
    if let (Some(pointer), Some(len)) = (value.get("ptr"), value.get("len")) {
        return (
            pointer.as_i64().unwrap_or(0),
            len.as_i64().unwrap_or(0),
            Vec::new(),
        );
    }
    let bytes = match value {
        Value::Null => Vec::new(),
        Value::Array(segments) if kind == 'S' => {
            segments.iter().map(plain).collect::<Vec<_>>().join(&0)
        }
        Value::String(path) if kind == 'S' => path.replace('.', "\0").into_bytes(),
        Value::Array(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| (plain(&entry[0]), plain(&entry[1])))
                .collect();
            pairs::encode(&entries)
        }
        other => plain(other),
    };
    let pointer = if bytes.is_empty() {
        0
    } else {
        bytes.as_ptr() as i64
    };
    (pointer, bytes.len() as i64, bytes)
}

fn plain(value: &Value) -> Vec<u8> {
    if let Some(hex) = value.get("hex").and_then(Value::as_str) {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(0);
        return (0..hex.len() / 2).map(|at| digit(at * 2)).collect();
    }
    if let (Some(piece), Some(times)) = (value.get("repeat"), value.get("times")) {
        return plain(piece).repeat(times.as_u64().unwrap_or(0) as usize);
    }
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// An argument as the log shows it.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
