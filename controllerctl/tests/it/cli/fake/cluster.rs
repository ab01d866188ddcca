//! A running fake: its server, its certificates, the program under test.

use longshore_proto::agent::v1::enrollment_service_server::EnrollmentServiceServer;
use longshore_proto::images::v1::image_service_server::ImageServiceServer;
use longshore_proto::operators::v1::operator_service_server::OperatorServiceServer;
use longshore_proto::secrets::v1::secret_service_server::SecretServiceServer;

use super::*;

impl Cluster {
    pub(crate) fn start() -> Self {
        let ca = ClusterCa::create("lab", SystemTime::now()).unwrap();
        let fake = Fake::default();
        fake.world().services.push(service("hello", "hello", 2));
        let names = [("shop/web:1".to_owned(), "sha256:cd".to_owned())];
        fake.world().images.names = names.into();
        fake.world().autoscale = explain::autoscale();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let names = ["127.0.0.1".to_owned()];
        let identity = Identity::Controller("c1".into());
        let (cert, key) = ca
            .issue_new(&identity, &names, DAY, SystemTime::now())
            .unwrap();
        // Whoever knows the CA by its digest only must be shown it.
        let chain = format!("{cert}\n{}", ca.cert_pem());
        let certs = CertHolder::from_pem(&chain, &key).unwrap();
        let trust = TrustHolder::new(ca.cert_pem(), HashSet::new()).unwrap();
        let config = server_config(certs, trust.clone()).unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let server = ControlServiceServer::new(fake.clone());
        let images = ImageServiceServer::new(fake.clone());
        let secrets = SecretServiceServer::new(fake.clone());
        let operators = OperatorServiceServer::new(fake.clone());
        let enrollment = EnrollmentServiceServer::new(fake.clone());
        fake.world().known.ca = Some((ca.cert_pem().to_owned(), ca.key_pem().to_string()));
        fake.world().known.server = format!("https://{address}");
        runtime.spawn(async move {
            let incoming = accept(listener, config, trust, AcceptLimits::default());
            let router = tonic::transport::Server::builder().add_service(server);
            let router = router.add_service(images).add_service(secrets);
            let router = router.add_service(operators).add_service(enrollment);
            router.serve_with_incoming(incoming).await.unwrap();
        });
        let dir = tempfile::tempdir().unwrap();
        let cluster = Self {
            fake,
            address,
            dir,
            ca,
            _runtime: runtime,
        };
        cluster.context("config.toml", OperatorRole::Admin, SystemTime::now());
        cluster
    }

    /// Writes a file with one context, its certificate issued at `now`.
    pub(crate) fn context(&self, file: &str, role: OperatorRole, now: SystemTime) -> PathBuf {
        let identity = Identity::Operator {
            name: "ana".into(),
            role,
        };
        let (cert, key) = self.ca.issue_new(&identity, &[], DAY, now).unwrap();
        self.write(file, self.ca.cert_pem(), &cert, &key)
    }

    pub(crate) fn write(&self, file: &str, ca: &str, cert: &str, key: &str) -> PathBuf {
        let path = self.dir.path().join(file);
        let server = format!("https://{}", self.address);
        let text = format!(
            "current = \"lab\"\n[context.lab]\nservers = [\"{server}\"]\nca = '''{ca}'''\n\
             cert = '''{cert}'''\nkey = '''{key}'''\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The program, in a directory and with a configuration of its own.
    pub(crate) fn ctl(&self, args: &[&str]) -> assert_cmd::Command {
        self.ctl_with(&self.dir.path().join("config.toml"), args)
    }

    pub(crate) fn ctl_with(&self, config: &Path, args: &[&str]) -> assert_cmd::Command {
        let mut command = assert_cmd::Command::cargo_bin("controllerctl").unwrap();
        command
            .env_clear()
            .env("CONTROLLERCTL_CONFIG", config)
            .current_dir(self.dir.path())
            .timeout(Duration::from_secs(60))
            .args(args);
        command
    }

    /// A Compose file with one service of this image.
    pub(crate) fn compose(&self, image: &str) -> String {
        let path = self.dir.path().join("app.yaml");
        let text = format!("name: app\nservices:\n  web:\n    image: {image}\n");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}
