//! What cannot be moved is refused with a reason that a person understands, and A goes on.

use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Container, Pod, Testbed};

use crate::expect;
use crate::migration::{client, finish};
use crate::world::{Scenario, need_daemon, three};

const FROM: &str = "mycedrive.io/migrate-from";

pub fn all() -> Vec<Scenario> {
    let source = |pod: &str| format!("10.77.0.1:7843/{pod}");
    let arrival = |value: &str| redis::pod("redis-0", "mycedrive").annotation(FROM, value);
    let other = |container: Container| {
        Pod::new("shop", "redis-0")
            .with(container)
            .annotation(FROM, "10.77.0.1:7843/shop/redis-0")
    };
    let cases: Vec<(&str, Pod, Vec<&'static str>)> = vec![
        (
            "malformed_annotation",
            arrival("nonsense"),
            vec!["migrate-from", "nonsense"],
        ),
        (
            "unknown_annotation",
            arrival(&source("shop/redis-0")).annotation("mycedrive.io/no-such-thing", "1"),
            vec!["no-such-thing"],
        ),
        (
            "unreachable_source",
            arrival("10.77.0.77:7843/shop/redis-0"),
            vec!["10.77.0.77:7843"],
        ),
        (
            "closed_port",
            arrival("10.77.0.1:7/shop/redis-0"),
            vec!["10.77.0.1:7"],
        ),
        (
            "unknown_pod",
            arrival(&source("shop/no-such-pod")),
            vec!["no-such-pod"],
        ),
        (
            "other_namespace",
            arrival(&source("bank/redis-0")),
            vec!["namespace"],
        ),
        (
            "other_image",
            other(Container::new("redis", "busybox", &[])),
            vec!["image"],
        ),
        (
            "other_container_name",
            other(Container::new("cache", "redis", &[])),
            vec!["cache"],
        ),
        (
            "wider_rights",
            other(Container::new("redis", "redis", &[]).capability("SYS_ADMIN")),
            vec!["SYS_ADMIN"],
        ),
    ];
    cases
        .into_iter()
        .map(|(name, pod, parts)| {
            Scenario::new(format!("refusal::{name}"), move |testbed| {
                refused(testbed, &pod, &parts)
            })
        })
        .collect()
}

fn refused(testbed: &Testbed, arrival: &Pod, parts: &[&str]) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(&redis::pod("redis-0", "mycedrive"))?;
    let client = client(outside, &source.ip)?;
    let message = expect::failure("the arrival", b.run_pod_within(arrival, Duration::ZERO))?;
    expect::contains("message", &message, parts)?;
    finish(client)?;
    expect::equal(
        "pong",
        expect::exec(a, &source, "redis", &["redis-cli", "ping"])?.as_str(),
        "PONG",
    )
}
