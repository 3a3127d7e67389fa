use std::collections::HashMap;
use std::time::Duration;

use super::{AnnotationError, parse};
use crate::config::Migration;

fn of(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (format!("mycedrive.io/{name}"), (*value).to_owned()))
        .collect()
}

#[test]
fn a_pod_without_the_annotation_is_ordinary() {
    let annotations = of(&[("bandwidth", "nonsense")]);
    assert_eq!(parse(&annotations, &Migration::default()), Ok(None));
}

#[test]
fn all_of_them() {
    let annotations = of(&[
        ("migrate-from", "node-a.example:7843/shop/redis-0"),
        ("max-downtime", "2s"),
        ("bandwidth", "10mbit"),
        ("connections", "close"),
        ("engine", "auto"),
    ]);
    let wish = parse(&annotations, &Migration::default()).unwrap().unwrap();
    assert_eq!(wish.endpoint, "node-a.example:7843");
    assert_eq!(
        (wish.namespace, wish.pod),
        ("shop".into(), "redis-0".into())
    );
    assert_eq!(wish.max_downtime, Duration::from_secs(2));
    assert_eq!(wish.bandwidth, 1_250_000);
    assert!(!wish.keep_connections);
    let short = of(&[
        ("migrate-from", "[fd00::1]:7843/a/b"),
        ("bandwidth", "5MB/s"),
    ]);
    let wish = parse(&short, &Migration::default()).unwrap().unwrap();
    assert_eq!(wish.bandwidth, 5_000_000);
    assert!(wish.keep_connections);
}

#[test]
fn errors_name_annotation_value_and_what_is_allowed() {
    let good = ("migrate-from", "node-a:7843/shop/redis-0");
    let cases = [
        (
            vec![("migrate-from", "node-a/shop/redis-0")],
            "migrate-from",
        ),
        (vec![("migrate-from", "node-a:7843/shop")], "migrate-from"),
        (
            vec![("migrate-from", "node-a:7843/shop/x/y")],
            "migrate-from",
        ),
        (vec![("migrate-from", "node-a:7843/Shop/x")], "migrate-from"),
        (vec![good, ("max-downtime", "soon")], "max-downtime"),
        (vec![good, ("bandwidth", "fast")], "bandwidth"),
        (vec![good, ("connections", "drop")], "connections"),
        (vec![good, ("engine", "none")], "engine"),
    ];
    for (pairs, name) in cases {
        let error = parse(&of(&pairs), &Migration::default()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, AnnotationError::Value { .. }), "{text}");
        assert!(text.contains(name) && text.contains("must be"), "{text}");
    }
    let slip = of(&[good, ("max-downtme", "2s")]);
    let error = parse(&slip, &Migration::default()).unwrap_err().to_string();
    assert!(error.contains("max-downtme is unknown"), "{error}");
}
