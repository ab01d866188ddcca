//! Certificates: etcd's, and ours.

use std::path::Path;
use std::time::Duration;

use longshore_etcd::{Client, Credentials, EtcdError, Range, Settings, Span};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use longshore_etcd_host::{Cluster, patient_with};

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Certificate and key of somebody at loopback, both as PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn file(dir: &Path, name: &str, pem: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, pem).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn etcd_and_its_clients_know_each_other_by_certificates() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let (server, server_key) = ca.sign();
    let (client, client_key) = ca.sign();
    let certificate = file(dir.path(), "server.pem", &server);
    let key = file(dir.path(), "server.key", &server_key);
    let trusted = file(dir.path(), "ca.pem", &ca.pem);
    let options = ["--cert-file", &certificate, "--key-file", &key];
    let options = [
        &options[..],
        &["--client-cert-auth", "--trusted-ca-file", &trusted],
    ]
    .concat();
    let known = Credentials::new(&ca.pem, Some((&client, &client_key))).unwrap();
    let cluster = Cluster::launch(1, &options, Some(&known)).await;
    let read = async |credentials: &Credentials| {
        let mut settings = Settings::new(&cluster.urls(), Some(credentials)).unwrap();
        settings.patience = Duration::from_secs(2);
        Client::new(settings).range(Range::of(Span::key("k"))).await
    };
    patient_with(&cluster.urls(), Some(&known))
        .range(Range::of(Span::key("k")))
        .await
        .unwrap();
    let other = Ca::new();
    let (stranger, stranger_key) = other.sign();
    let known_there = "does its CA know this one?";
    for (who, credentials, why) in [
        ("nobody", Credentials::new(&ca.pem, None), known_there),
        (
            "a stranger",
            Credentials::new(&ca.pem, Some((&stranger, &stranger_key))),
            known_there,
        ),
        (
            "somebody else's",
            Credentials::new(&other.pem, Some((&client, &client_key))),
            "invalid peer certificate",
        ),
    ] {
        let error = read(&credentials.unwrap()).await.unwrap_err();
        assert!(
            matches!(error, EtcdError::NoEndpoint { .. }),
            "{who}: {error}"
        );
        assert!(error.to_string().contains(why), "{who}: {error}");
    }
}
