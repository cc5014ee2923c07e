//! What one translation costs among as many Ingresses as HTTPRoutes, as a cluster has them: each with a host of its own.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tidegate_controller::api::{Age, Source};
use tidegate_controller::resources::{Resources, decode};
use tidegate_controller::status::{Address, AddressKind};
use tidegate_controller::translate::{Options, translate};
use tidegate_model::FilterVerdicts;

use tidegate_bench_harness::figures::{heading, milliseconds, row, timed};

/// Prints a line for Ingresses as they are, and one for Ingresses with annotations.
pub(crate) fn measure(each: usize, passes: usize) -> anyhow::Result<()> {
    heading(
        &format!(
            "{each} Ingresses and {each} HTTPRoutes, in process, times in ms (minimum of {passes} passes)"
        ),
        &["translate", "drop", "unchanged", "filters"],
    );
    for annotated in [false, true] {
        measure_one(each, passes, annotated)?;
    }
    println!("  unchanged: comparing the snapshot with an equal one");
    Ok(())
}

fn measure_one(each: usize, passes: usize, annotated: bool) -> anyhow::Result<()> {
    let resources = resources(each, annotated)?;
    let options = Options {
        standalone: false,
        ingress_nginx_annotations: annotated,
        gateway_api_version: Some("v1.4.0".to_owned()),
        addresses: vec![Address {
            kind: AddressKind::IpAddress,
            value: "203.0.113.1".to_owned(),
        }],
        ..Options::default()
    };
    let mut last = translate(&resources, &FilterVerdicts::new(), &options);
    let [mut translated, mut dropped, mut compared] = [Duration::MAX; 3];
    for _ in 0..passes {
        let (next, took) = timed(|| translate(&resources, &FilterVerdicts::new(), &options));
        translated = translated.min(took);
        let (same, took) = timed(|| next.snapshot == last.snapshot);
        compared = compared.min(took);
        anyhow::ensure!(same, "two translations of the same objects differ");
        let old = std::mem::replace(&mut last, next);
        dropped = dropped.min(timed(|| drop(old)).1);
    }
    let closed = last.statuses.objects.values().filter(|status| {
        let accepted = status.condition("Accepted");
        accepted.is_some_and(|accepted| !accepted.is_true())
    });
    if let Some(status) = closed.into_iter().next() {
        anyhow::bail!("the generated objects are wrong: {status:?}");
    }
    let name = if annotated {
        "with annotations"
    } else {
        "plain"
    };
    row(
        name,
        &[
            milliseconds(translated),
            milliseconds(dropped),
            milliseconds(compared),
            last.snapshot.filters.len().to_string(),
        ],
    );
    Ok(())
}

fn resources(each: usize, annotated: bool) -> anyhow::Result<Resources> {
    let mut resources = Resources::default();
    let mut objects = base();
    objects.extend((0..each).map(http_route));
    objects.extend((0..each).map(|number| ingress(number, annotated)));
    objects.extend(
        (0..each)
            .step_by(10)
            .flat_map(|number| service(&main(number))),
    );
    for object in &mut objects {
        let metadata = &mut object["metadata"];
        metadata["namespace"] = "bench".into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let decoded =
            decode(object, Source::Cluster, Age::default()).context("a kind that is not read")?;
        resources.apply(decoded?);
    }
    Ok(resources)
}

/// What all of them need.
fn base() -> Vec<Value> {
    vec![
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "tidegate"},
            "spec": {"controllerName": "tidegate.dev/controller"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "tidegate"},
            "spec": {"controller": "tidegate.dev/controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web"},
            "spec": {"gatewayClassName": "tidegate", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
    ]
    .into_iter()
    .chain(service("one"))
    .collect()
}

fn service(name: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"port": 3000}], "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    ]
}

/// The Service of an Ingress that has a canary: a canary stands beside a Service, and so beside one Ingress alone.
fn main(number: usize) -> String {
    format!("main{number}")
}

fn http_route(number: usize) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": format!("r{number}")},
        "spec": {"parentRefs": [{"name": "web"}], "hostnames": [format!("r{number}.example")], "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "filters": [{"type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"set": [{"name": "x-edit", "value": "0"}]}}],
            "backendRefs": [{"name": "one", "port": 80}]}]}})
}

/// With annotations: a limit for bodies, expressions with a rewrite, and of every tenth pair the second is a canary of the first.
fn ingress(number: usize, annotated: bool) -> Value {
    let is_canary = number % 10 == 1;
    let host = number - usize::from(annotated && is_canary);
    let service = match number % 10 {
        0 => main(number),
        _ => "one".to_owned(),
    };
    let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": format!("i{number}")},
        "spec": {"ingressClassName": "tidegate", "rules": [{"host": format!("i{host}.example"), "http": {"paths": [{
            "path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": service, "port": {"number": 80}}}}]}}]}});
    if annotated {
        let mut annotations = json!({
            "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
            "nginx.ingress.kubernetes.io/use-regex": "true",
            "nginx.ingress.kubernetes.io/rewrite-target": "/$2",
        });
        if is_canary {
            annotations["nginx.ingress.kubernetes.io/canary"] = "true".into();
            annotations["nginx.ingress.kubernetes.io/canary-by-header"] = "x-canary".into();
            annotations["nginx.ingress.kubernetes.io/canary-by-header-pattern"] =
                "^v[0-9]+$".into();
        }
        object["metadata"]["annotations"] = annotations;
        let path = &mut object["spec"]["rules"][0]["http"]["paths"][0];
        path["path"] = "/api(/|$)(.*)".into();
        path["pathType"] = "ImplementationSpecific".into();
    }
    object
}
