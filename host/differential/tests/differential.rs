//! Runs every case in a real Envoy and in this host. `CASES=text` runs those whose name contains it; `SHOW=1` prints what both
//! did; `WRITE=1` writes the differences into differences.yaml, where a person has to add the reasons.

use std::collections::HashSet;
use std::path::PathBuf;

use tidegate_differential::case::{self, Case};
use tidegate_differential::differences::{self, Table};
use tidegate_differential::envoy::Envoy;
use tidegate_differential::exchange::play;
use tidegate_differential::here::{Here, SUITE_THREAD};
use tidegate_differential::modules;

const SENTINEL: &str = "sentinel";
/// Cases that take longer are named, so that the suite stays quick.
const SLOW: std::time::Duration = std::time::Duration::from_millis(1500);

fn folder() -> PathBuf {
    modules::repository().join("host/differential")
}

fn cases() -> Vec<Case> {
    case::read(&folder().join("cases"))
}

fn table() -> Table {
    Table::read(&folder().join("differences.yaml"))
}

#[test]
fn there_are_enough_cases_and_each_has_its_name() {
    let cases = cases();
    assert!(cases.len() >= 170, "{} cases", cases.len());
    let mut names = HashSet::new();
    for case in &cases {
        let name = &case.case;
        assert!(names.insert(name.clone()), "two cases are named {name}");
        let fits = name.len() <= 50
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(
            fits,
            "{name:?} is to be a hostname's label of at most 50 letters"
        );
        for plugin in &case.plugins {
            assert!(
                modules::names().any(|known| known == plugin.module),
                "{name}: no guest {}",
                plugin.module
            );
        }
    }
    assert!(names.contains(SENTINEL));
}

#[test]
fn every_listed_difference_has_a_case_and_a_reason() {
    let (cases, table) = (cases(), table());
    let mut used = HashSet::new();
    for (name, difference) in &table.cases {
        assert!(
            cases.iter().any(|case| case.case == *name),
            "no case is named {name}"
        );
        assert!(!difference.reasons.is_empty(), "{name} has no reason");
        for reason in &difference.reasons {
            assert!(
                table.reasons.contains_key(reason),
                "{name}: no reason is named {reason}"
            );
            used.insert(reason);
        }
    }
    for name in table.reasons.keys() {
        assert!(used.contains(name), "the reason {name} is used by no case");
    }
}

#[test]
fn the_page_of_differences_is_the_tables() {
    let path = modules::repository().join("docs/differences-from-envoy.md");
    let page = table().page();
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written,
        page,
        "write {} anew: WRITE=1 cargo test -p tidegate-differential",
        path.display()
    );
}

#[test]
#[ignore = "real parts"]
fn this_host_does_what_envoy_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(SUITE_THREAD)
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(compare());
}

async fn compare() {
    let wanted = std::env::var("CASES").unwrap_or_default();
    let all = cases();
    let sentinel = all
        .iter()
        .find(|case| case.case == SENTINEL)
        .expect("it is there")
        .clone();
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| case.case == SENTINEL || case.case.contains(&wanted))
        .collect();
    let started = std::time::Instant::now();
    let together: Vec<Case> = cases.iter().filter(|case| !case.alone).cloned().collect();
    let (mut envoy, here) = tokio::join!(Envoy::start(&together), Here::start(&cases));
    eprintln!(
        "{} cases; both hosts serve after {:?}",
        cases.len() - 1,
        started.elapsed()
    );
    let mut table = table();
    let mut wrong = Vec::new();
    for (at, case) in cases
        .iter()
        .enumerate()
        .filter(|(_, case)| case.case != SENTINEL)
    {
        let began = std::time::Instant::now();
        let theirs = if case.alone {
            match Envoy::try_start(&[sentinel.clone(), case.clone()]).await {
                Ok(envoy) => play(&envoy, case, &sentinel).await.lines(),
                Err(ended) => vec![format!("it does not start: {ended}")],
            }
        } else {
            let record = play(&envoy, case, &sentinel).await;
            let ended = if record.alive {
                envoy.ended()
            } else {
                envoy.end().await
            };
            let mut theirs = record.lines();
            if let Some(ended) = ended {
                // How far it came before is a matter of luck.
                theirs = vec![format!("the process ended: {ended}")];
                let rest = cases[at + 1..].iter().filter(|case| !case.alone);
                let rest: Vec<Case> = std::iter::once(&sentinel).chain(rest).cloned().collect();
                envoy = Envoy::start(&rest).await;
            }
            if case.luck {
                theirs = vec!["(changes from run to run)".to_owned()];
            }
            theirs
        };
        let between = began.elapsed();
        let ours = play(&here, case, &sentinel).await.lines();
        if began.elapsed() > SLOW {
            eprintln!(
                "{} took {between:?} in Envoy, {:?} here",
                case.case,
                began.elapsed() - between
            );
        }
        if std::env::var_os("SHOW").is_some() {
            eprintln!(
                "=== {}\nenvoy:\n  {}\nhere:\n  {}",
                case.case,
                theirs.join("\n  "),
                ours.join("\n  ")
            );
        }
        let found = differences::between(&theirs, &ours);
        let listed = table.cases.get(&case.case).cloned().unwrap_or_default();
        if !found.same(&listed) {
            wrong.push(format!(
                "{}\n  found:\n{found}  listed:\n{listed}",
                case.case
            ));
            if found.is_empty() {
                table.cases.remove(&case.case);
            } else {
                let entry = table.cases.entry(case.case.clone()).or_default();
                (entry.envoy, entry.here) = (found.envoy, found.here);
            }
        }
    }
    if std::env::var_os("WRITE").is_some() {
        let text = serde_saphyr::to_string(&table).expect("plain data");
        std::fs::write(folder().join("differences.yaml"), text).expect("written");
    }
    eprintln!("all over after {:?}", started.elapsed());
    assert!(
        wrong.is_empty(),
        "{} cases differ otherwise than listed:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
