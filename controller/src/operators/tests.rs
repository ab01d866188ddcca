//! Who is let in, as what, and until when.

use super::*;

const NOW_MS: TimeMs = 1_000_000;

fn token(id: &str, secret: u8, expires_ms: TimeMs) -> Credential {
    Credential {
        id: id.into(),
        hash: [secret; 32],
        expires_ms,
        used_key: None,
    }
}

fn operators() -> Operators {
    let new = |name: &str, role| OperatorRecord::new(name.into(), role, 0, "admin".into());
    let admin = OperatorRecord {
        any_serial: true,
        ..new("admin", OperatorRole::Admin)
    };
    let ana = OperatorRecord {
        serials: vec!["41".into()],
        ..new("ana", OperatorRole::Deployer)
    };
    let ci = OperatorRecord {
        token: Some(token("ci", 7, NOW_MS)),
        ..new("ci", OperatorRole::Admin)
    };
    let all = [admin, ana, ci].map(|record| (record.name.clone(), record));
    Operators(all.into())
}

fn certificate(name: &str, serial: &str) -> Shown {
    Shown::Certificate(name.into(), serial.into())
}

#[test]
fn a_certificate_counts_by_its_serial_and_the_role_is_the_stores() {
    let operators = operators();
    let ana = operators.who(&certificate("ana", "41"), NOW_MS).unwrap();
    assert_eq!(
        (ana.role, ana.token_until_ms),
        (OperatorRole::Deployer, None)
    );
    let refused = |name, serial| {
        operators
            .who(&certificate(name, serial), NOW_MS)
            .unwrap_err()
    };
    assert_eq!(refused("ana", "42"), NotLetIn::Replaced("ana".into()));
    assert_eq!(refused("bob", "41"), NotLetIn::Unknown("bob".into()));
    // Of before.
    assert!(operators.who(&certificate("admin", "99"), NOW_MS).is_ok());
}

#[test]
fn a_token_counts_until_its_end_with_its_own_secret() {
    let operators = operators();
    let shown = |id: &str, secret| Shown::Token(id.into(), [secret; 32]);
    let ci = operators.who(&shown("ci", 7), NOW_MS).unwrap();
    assert_eq!((ci.name.as_str(), ci.token_until_ms), ("ci", Some(NOW_MS)));
    assert_eq!(operators.who(&shown("ci", 8), NOW_MS), Err(NotLetIn::Token));
    assert_eq!(operators.who(&shown("cj", 7), NOW_MS), Err(NotLetIn::Token));
    let over = operators.who(&shown("ci", 7), NOW_MS + 90_000).unwrap_err();
    assert!(over.to_string().contains("ended 1m 30s ago"), "{over}");
}

#[test]
fn an_admin_without_anything_to_show_is_no_other_admin() {
    let mut operators = operators();
    assert!(operators.has_other_admin("admin", NOW_MS), "ci has a token");
    assert!(operators.has_other_admin("ci", NOW_MS));
    assert!(
        !operators.has_other_admin("admin", NOW_MS + 1),
        "it is over"
    );
    let gone = operators.0.remove("admin").unwrap();
    assert!(
        !operators.has_other_admin("ci", NOW_MS),
        "ana is a deployer"
    );
    let invited = OperatorRecord {
        any_serial: false,
        invite: Some(token("i", 9, NOW_MS)),
        ..gone
    };
    operators.0.insert("admin".into(), invited);
    assert!(!operators.has_other_admin("ci", NOW_MS), "not fetched yet");
    assert_eq!(operators.invited(&[9; 32]).unwrap().name, "admin");
    assert!(
        operators.invited(&[7; 32]).is_none(),
        "a token is no invite"
    );
}
