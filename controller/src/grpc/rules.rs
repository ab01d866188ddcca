//! The table of calls and callers, made from the descriptor: a new method without a rule fails.

use std::time::Duration;

use longshore_identity::tls::RENEW_FIRST;
use longshore_identity::{Identity, OperatorRole};
use longshore_model::NodeId;
use prost::Message;
use tonic::Code;

use super::auth::{Rule, allow, rule};

fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(longshore_proto::DESCRIPTORS).unwrap();
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                paths.push(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    paths
}

fn callers() -> Vec<Option<Identity>> {
    let operator = |role| {
        Some(Identity::Operator {
            name: "ana".into(),
            role,
        })
    };
    vec![
        None,
        Some(Identity::Node(NodeId::new("a").unwrap())),
        operator(OperatorRole::Viewer),
        operator(OperatorRole::Deployer),
        operator(OperatorRole::Admin),
        Some(Identity::Controller("c".into())),
    ]
}

/// Who gets in, in the order of `callers`.
fn expected(rule: Rule) -> [bool; 6] {
    match rule {
        Rule::Anyone => [true; 6],
        Rule::Member => [false, true, true, true, true, true],
        Rule::Node | Rule::Renewal => [false, true, false, false, false, false],
        Rule::Operator(OperatorRole::Viewer) => [false, false, true, true, true, false],
        Rule::Operator(OperatorRole::Deployer) => [false, false, false, true, true, false],
        Rule::Operator(OperatorRole::Admin) => [false, false, false, false, true, false],
    }
}

#[test]
fn every_method_has_a_rule_and_every_caller_its_answer() {
    let methods = methods();
    assert_eq!(
        methods.len(),
        59,
        "a method was added or removed: {methods:?}"
    );
    for path in &methods {
        let rule = rule(path).unwrap_or_else(|| panic!("{path} has no rule"));
        for (caller, expected) in callers().iter().zip(expected(rule)) {
            let answer = allow(path, caller.as_ref(), None);
            assert_eq!(answer.is_ok(), expected, "{path} by {caller:?}: {answer:?}");
            if let Err(status) = answer {
                let code = if caller.is_none() {
                    Code::Unauthenticated
                } else {
                    Code::PermissionDenied
                };
                assert_eq!(status.code(), code, "{path} by {caller:?}");
            }
        }
    }
}

#[test]
fn who_is_late_renews_and_is_told_why_all_else_is_refused() {
    let (node, late) = (
        Identity::Node(NodeId::new("a").unwrap()),
        Some(Duration::from_secs(86_460)),
    );
    for path in methods() {
        let answer = allow(&path, Some(&node), late);
        if path == "/longshore.agent.v1.EnrollmentService/Renew" {
            assert!(answer.is_ok(), "{answer:?}");
            continue;
        }
        let status = answer.expect_err(&path);
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
        let words = "ended 1day 1m ago; for 30 days it renews itself and does nothing else";
        assert!(status.message().contains(words), "{status}");
        assert!(status.metadata().contains_key(RENEW_FIRST), "{status:?}");
    }
}

#[test]
fn only_joining_needs_no_certificate() {
    let open: Vec<String> = methods()
        .into_iter()
        .filter(|path| rule(path) == Some(Rule::Anyone))
        .collect();
    assert_eq!(open, ["/longshore.agent.v1.EnrollmentService/Join"]);
}

#[test]
fn the_comments_of_the_contract_name_the_same_roles() {
    let control = include_str!("../../../proto/longshore/control/v1/control.proto");
    compare(control, "longshore.control.v1.ControlService", 38);
    let images = include_str!("../../../proto/longshore/images/v1/images.proto");
    let operators = images.split("service ImageSourceService").next().unwrap();
    compare(operators, "longshore.images.v1.ImageService", 8);
    let secrets = include_str!("../../../proto/longshore/secrets/v1/secrets.proto");
    compare(secrets, "longshore.secrets.v1.SecretService", 5);
}

fn compare(proto: &str, service: &str, methods: usize) {
    let mut role = None;
    let mut checked = 0;
    for line in proto.lines().map(str::trim) {
        let word = line
            .strip_prefix("//")
            .and_then(|text| text.split_whitespace().last());
        if let Some(found) = word.and_then(|word| word.parse::<OperatorRole>().ok()) {
            role = Some(found);
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let method = rest.split('(').next().unwrap();
            let path = format!("/{service}/{method}");
            assert_eq!(rule(&path), role.take().map(Rule::Operator), "{method}");
            checked += 1;
        }
    }
    assert_eq!(checked, methods);
}

#[test]
fn unknown_methods_are_refused_to_everybody() {
    for caller in callers() {
        for path in [
            "/longshore.control.v1.ControlService/Reset",
            "/x",
            "",
            "/a/b",
        ] {
            assert!(allow(path, caller.as_ref(), None).is_err());
        }
    }
}
