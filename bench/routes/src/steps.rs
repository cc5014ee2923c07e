//! What one edit costs step by step, in process: read, translate, compare, publish, drop.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::bail;
use tidegate_controller::manifests::Manifests;
use tidegate_controller::translate::{Options, translate};
use tidegate_model::FilterVerdicts;
use tidegate_proxy::{Proxy, ProxyConfig};

use crate::fleet::Fleet;
use tidegate_bench_harness::figures::{SPREAD, Samples, heading, milliseconds, spread, timed};

/// How often each step is measured.
const EDITS: usize = 30;

/// Prints the steps of an edit.
pub(crate) fn measure(fleet: &Fleet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fleet.write(folder.path(), 80, 3000)?;
    let mut manifests = Manifests::new([folder.path()]);
    let (loaded, first) = timed(|| manifests.reload());
    let resources = &loaded.resources;
    if !resources.errors.is_empty() || !resources.rejected.is_empty() {
        bail!(
            "the generated manifests are wrong: {:?} {:?}",
            resources.errors,
            resources.rejected
        );
    }
    let (nothing, unchanged) = timed(|| manifests.reload());
    if nothing.changed {
        bail!("a reading without an edit found one");
    }
    drop(loaded);

    // Any free port: nobody asks this proxy for anything, but its worker takes up every state.
    let options = Options {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        port_map: BTreeMap::from([(80, 0)]),
        ..Options::default()
    };
    let proxy = Proxy::start(
        ProxyConfig {
            workers: 1,
            ..ProxyConfig::default()
        },
        None,
    )?;
    let [
        mut reload,
        mut translated,
        mut compared,
        mut published,
        mut dropped,
    ] = [const { Samples::new() }; 5];
    let mut random = fastrand::Rng::with_seed(7);
    let mut last = Arc::default();
    for edition in 1..=EDITS {
        fleet.write_host(
            folder.path(),
            random.usize(..fleet.hosts),
            Some((random.usize(..fleet.routes), edition)),
        )?;
        let (loaded, took) = timed(|| manifests.reload());
        reload.push(took);
        let (translation, took) =
            timed(|| translate(&loaded.resources, &FilterVerdicts::new(), &options));
        translated.push(took);
        let spare = translation.clone();
        let snapshot = Arc::new(translation.snapshot);
        let (differs, took) = timed(|| last != snapshot);
        compared.push(took);
        if !(loaded.changed && differs) {
            bail!("edit {edition} was not noticed");
        }
        let (errors, took) = timed(|| proxy.publish(snapshot.clone(), Vec::new()));
        published.push(took);
        if let Some(error) = errors.first() {
            bail!("{error}");
        }
        last = snapshot;
        dropped.push(timed(|| drop(spare)).1);
    }
    proxy.stop();

    heading(
        &format!(
            "one edit of {} routes in {} files, in process, times in ms",
            fleet.len(),
            fleet.hosts
        ),
        &SPREAD,
    );
    spread("read the folder again", &reload);
    spread("translate", &translated);
    spread("compare with the last snapshot", &compared);
    spread("publish, and drop what is old", &published);
    spread("drop a translation", &dropped);
    println!(
        "  first reading: {} ms; a reading that finds nothing new: {} ms",
        milliseconds(first),
        milliseconds(unchanged)
    );
    Ok(())
}
