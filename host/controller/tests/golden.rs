//! Golden cases: `golden/<feature>/<case>.in.yaml` is translated and compared with `<case>.out.yaml`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tidegate-controller --test golden` rewrites the outputs; what changed is to be read
//! against the specification before it is kept. A list of prefixes, `UPDATE_GOLDEN=ingress-,filter-`, rewrites those alone. Every case sees the Services of `golden/services.yaml` and the Secrets of
//! `golden/certificates.yaml` besides its own objects. Objects are decoded but not admitted: a cluster may hold what
//! newer or older CRDs let pass.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_controller::api::{Age, Key, Source};
use tidegate_controller::resources::{Resources, decode};
use tidegate_controller::status::{Address, AddressKind};
use tidegate_controller::translate::{Bind, Options, translate};
use tidegate_model::{FailureCause, FilterId, FilterVerdict, FilterVerdicts};

/// A document `kind: Options` of a case.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct CaseOptions {
    #[serde(rename = "kind")]
    _kind: String,
    standalone: Option<bool>,
    allow_external_name: bool,
    ingress_nginx_annotations: bool,
    bind: Vec<IpAddr>,
    port_map: BTreeMap<u16, u16>,
    addresses: Vec<CaseAddress>,
    assigned: BTreeMap<String, IpAddr>,
    /// By address; `udp 192.0.2.1:53` is one of UDP.
    bind_errors: BTreeMap<String, String>,
    gateway_api_version: Option<String>,
    now: Option<i64>,
    verdicts: BTreeMap<String, CaseVerdict>,
}

/// What loading a Filter taught.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum CaseVerdict {
    Loading,
    NotFetched,
    Ready {
        digest: String,
        abi: String,
        #[serde(default)]
        image: Option<String>,
    },
    FailedToLoad {
        message: String,
        last_good: bool,
    },
    FailedToConfigure {
        message: String,
        last_good: bool,
    },
}

#[derive(Deserialize)]
struct CaseAddress {
    r#type: String,
    value: String,
}

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var("UPDATE_GOLDEN").unwrap_or_default();
    let updated = |name: &Path| match update.as_str() {
        "" => false,
        "1" => true,
        features => features
            .split(',')
            .any(|prefix| name.to_string_lossy().starts_with(prefix)),
    };
    let mut failures = Vec::new();
    let cases = find(&root, ".in.yaml");
    assert!(!cases.is_empty(), "no cases in {}", root.display());
    for case in &cases {
        let expected = output(case);
        let actual = run(&root, case);
        let name = case.strip_prefix(&root).unwrap_or(case);
        if updated(name) {
            fs::write(&expected, &actual).expect("the output can be written");
        } else if fs::read_to_string(&expected).unwrap_or_default() != actual {
            failures.push(format!(
                "{}: {}",
                name.display(),
                difference(&expected, &actual)
            ));
        }
    }
    for stale in find(&root, ".out.yaml") {
        if !cases.iter().any(|case| output(case) == stale) {
            failures.push(format!("{} has no input", stale.display()));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases differ; read what changed, then UPDATE_GOLDEN=1:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn run(root: &Path, case: &Path) -> String {
    let mut resources = Resources::default();
    let mut options = Options::default();
    let mut verdicts = FilterVerdicts::default();
    for file in [
        &root.join("services.yaml"),
        &root.join("certificates.yaml"),
        case,
    ] {
        for (position, (line, object)) in documents(file).into_iter().enumerate() {
            if object["kind"] == "Options" {
                (options, verdicts) = read_options(&object);
                continue;
            }
            let name = Path::new(file.file_name().expect("a file has a name"));
            let age = Age::Read {
                path: name.into(),
                position: u32::try_from(position).expect("few documents"),
            };
            let decoded = decode(&object, Source::file(name, line), age);
            match decoded {
                Some(Ok(object)) => resources.apply(object),
                Some(Err(error)) => panic!("{}:{line}: {error}", file.display()),
                None => panic!("{}:{line}: not a kind that is read", file.display()),
            }
        }
    }
    let translation = translate(&resources, &verdicts, &options);
    let whole = json!({
        "snapshot": translation.snapshot,
        "statuses": translation.statuses,
        "warnings": translation.warnings,
    });
    serde_saphyr::to_string(&compact(whole)).expect("JSON is YAML")
}

/// The documents of a file with the lines they begin on.
fn documents(file: &Path) -> Vec<(u32, Value)> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut line = 1;
    let mut documents = Vec::new();
    for document in text.split_inclusive("\n---\n") {
        let lines = u32::try_from(document.lines().count()).expect("few lines");
        let yaml = document.strip_suffix("---\n").unwrap_or(document);
        let comments = yaml
            .lines()
            .take_while(|line| line.starts_with('#'))
            .count();
        let value: Value = serde_saphyr::from_str(yaml)
            .unwrap_or_else(|error| panic!("{}:{line}: {error}", file.display()));
        documents.push((line + u32::try_from(comments).expect("few lines"), value));
        line += lines;
    }
    documents
}

fn read_options(object: &Value) -> (Options, FilterVerdicts) {
    let case: CaseOptions = serde_json::from_value(object.clone()).expect("known options");
    let defaults = Options::default();
    let verdicts = case.verdicts.into_iter().map(|(name, taught)| {
        let key = key(&name);
        let id = FilterId {
            namespace: key.namespace.into(),
            name: key.name.into(),
        };
        (id, verdict(taught))
    });
    let verdicts = verdicts.collect();
    let options = Options {
        standalone: case.standalone.unwrap_or(defaults.standalone),
        allow_external_name: case.allow_external_name,
        ingress_nginx_annotations: case.ingress_nginx_annotations,
        bind: if case.bind.is_empty() {
            defaults.bind
        } else {
            case.bind
        },
        port_map: case.port_map,
        addresses: case.addresses.into_iter().map(address).collect(),
        assigned: case
            .assigned
            .into_iter()
            .map(|(name, address)| (key(&name), address))
            .collect(),
        bind_errors: case
            .bind_errors
            .into_iter()
            .map(|(at, why)| (bind(&at), why))
            .collect(),
        gateway_api_version: case.gateway_api_version,
        now: case.now,
        ..defaults
    };
    (options, verdicts)
}

fn bind(text: &str) -> Bind {
    let (address, udp) = match text.strip_prefix("udp ") {
        Some(address) => (address, true),
        None => (text, false),
    };
    Bind {
        address: address.parse().expect("an address and a port"),
        udp,
    }
}

fn verdict(taught: CaseVerdict) -> FilterVerdict {
    let failed = |cause, message: String, last_good| FilterVerdict::Failed {
        cause,
        message: message.into(),
        last_good,
    };
    match taught {
        CaseVerdict::Loading => FilterVerdict::Loading,
        CaseVerdict::NotFetched => FilterVerdict::NotFetched,
        CaseVerdict::Ready { digest, abi, image } => FilterVerdict::Ready {
            digest: digest.into(),
            abi: abi.into(),
            image: image.map(Into::into),
        },
        CaseVerdict::FailedToLoad { message, last_good } => {
            failed(FailureCause::Load, message, last_good)
        }
        CaseVerdict::FailedToConfigure { message, last_good } => {
            failed(FailureCause::Configure, message, last_good)
        }
    }
}

fn address(address: CaseAddress) -> Address {
    let kind = if address.r#type == "Hostname" {
        AddressKind::Hostname
    } else {
        AddressKind::IpAddress
    };
    Address {
        kind,
        value: address.value,
    }
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    Key::new(namespace, name)
}

/// What a reader compares: conditions, references and durations as one line each.
fn compact(value: Value) -> Value {
    match value {
        Value::Object(map) => one_line(&map).map_or_else(
            || {
                let fields = map
                    .into_iter()
                    .filter(|(key, _)| key != "supportedFeatures");
                fields.map(|(key, value)| (key, compact(value))).collect()
            },
            Value::String,
        ),
        Value::Array(list) => list.into_iter().map(compact).collect(),
        other => other,
    }
}

fn one_line(map: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| match &map[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    Some(match keys.as_slice() {
        ["type", "status", "reason", "message", "observedGeneration"] => {
            let generation = match text("observedGeneration").as_str() {
                "1" => String::new(),
                other => format!(" (generation {other})"),
            };
            format!(
                "{}={} {}{generation}: {}",
                text("type"),
                text("status"),
                text("reason"),
                text("message")
            )
        }
        ["group", "kind"] => text("kind"),
        ["group", "kind", rest @ ..] if rest.contains(&"name") => {
            let rest: Vec<String> = rest
                .iter()
                .map(|key| format!("{key}={}", text(key)))
                .collect();
            format!("{} {}", text("kind"), rest.join(" "))
        }
        ["kind", "namespace", "name", "index", rest @ ..] => {
            let rule = rest
                .first()
                .map(|key| format!(" ({})", text(key)))
                .unwrap_or_default();
            format!(
                "{} {}/{} rule {}{rule}",
                text("kind"),
                text("namespace"),
                text("name"),
                text("index")
            )
        }
        ["target", "weight"] => match &map["target"]["unresolved"]["reason"] {
            Value::String(reason) => format!("weight {} unresolved: {reason}", text("weight")),
            _ => format!(
                "weight {} {}",
                text("weight"),
                map["target"]["backend"].as_str().unwrap_or_default()
            ),
        },
        ["secs", "nanos"] => {
            let duration = Duration::new(
                map["secs"].as_u64()?,
                u32::try_from(map["nanos"].as_u64()?).ok()?,
            );
            format!("{duration:?}")
        }
        _ => return None,
    })
}

fn difference(expected: &Path, actual: &str) -> String {
    let Ok(old) = fs::read_to_string(expected) else {
        return "there is no output yet".to_owned();
    };
    let (mut old, mut new) = (old.lines(), actual.lines());
    let mut line = 0;
    loop {
        line += 1;
        match (old.next(), new.next()) {
            (None, None) => return "only line ends differ".to_owned(),
            (a, b) if a == b => {}
            (a, b) => {
                return format!(
                    "line {line}\n    expected {}\n    actual   {}",
                    a.unwrap_or("(end)"),
                    b.unwrap_or("(end)")
                );
            }
        }
    }
}

fn output(case: &Path) -> PathBuf {
    PathBuf::from(case.to_string_lossy().replace(".in.yaml", ".out.yaml"))
}

fn find(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(find(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}
