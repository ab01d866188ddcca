//! Signing requests, certificates, keys and tokens of others.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use longshore_identity::ca::ClusterCa;
use longshore_identity::site::SiteCertificate;
use longshore_identity::tls::{CertHolder, certificate_validity, lateness, peer_info, serial_end};
use longshore_identity::{Identity, OperatorRole, Token, TokenKind};
use longshore_model::Roles;
use rustls_pki_types::CertificateDer;

static CA: OnceLock<ClusterCa> = OnceLock::new();
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What is signed names who was meant, whatever the request says.
fn sign(request: &[u8]) {
    let ca = CA.get_or_init(|| ClusterCa::create("lab", SystemTime::now()).expect("a CA"));
    let meant = Identity::Operator {
        name: "ana".into(),
        role: OperatorRole::Viewer,
    };
    let (roles, life, now) = (Roles::default(), Duration::from_secs(60), SystemTime::now());
    let Ok(der) = ca.issue_from_csr(request, &meant, roles, &[], life, now) else {
        assert!(ClusterCa::csr_key_digest(request).is_err() || request.len() > 64);
        return;
    };
    let leaf = CertificateDer::from(der);
    let peer = peer_info(Some(std::slice::from_ref(&leaf)), NOWHERE).expect("our own");
    assert_eq!(peer.identity, Some(meant));
    assert!(serial_end(&peer.serial).is_some());
}

fn read(der: &[u8]) {
    let leaf = CertificateDer::from(der.to_vec());
    let _ = peer_info(Some(std::slice::from_ref(&leaf)), NOWHERE);
    let _ = certificate_validity(&leaf);
    let _ = lateness(&leaf, SystemTime::UNIX_EPOCH);
}

fn site(text: &[u8]) {
    if let Ok(site) = SiteCertificate::read(text) {
        let _ = (site.covers("www.example.org"), site.times(), site.digest());
        let _ = site.validity(SystemTime::UNIX_EPOCH);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else {
        return;
    };
    match which % 5 {
        0 => sign(rest),
        1 => read(rest),
        2 => site(rest),
        3 => {
            let text = String::from_utf8_lossy(rest);
            let _ = CertHolder::from_pem(&text, &text);
            let _ = ClusterCa::load("lab", &text, &text);
        }
        _ => {
            let text = String::from_utf8_lossy(rest);
            for kind in [TokenKind::Join, TokenKind::Invite, TokenKind::Bearer] {
                if let Ok(token) = Token::parse(kind, &text) {
                    let again = Token::parse(kind, &token.to_string()).expect("read back");
                    assert_eq!((again.id, again.secret), (token.id, token.secret));
                }
            }
            let _ = Identity::from_uri(&text);
        }
    }
});
