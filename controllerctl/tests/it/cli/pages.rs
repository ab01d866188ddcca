//! The documentation's console blocks, run as they stand. After a change that is meant:
//! `TRYCMD=overwrite cargo nextest run -p controllerctl pages`, then read the difference.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::fake::Cluster;

/// Pages, each run in a directory of its own with an older and a newer Compose file.
const PAGES: [&str; 2] = ["cli.md", "init-from.md"];

const OLD: &str = "\
web:
  image: shop/web:1
  expose: ['8000']
  environment: ['COOKIE=SRV insert indirect nocache']
  links: [db]
db:
  image: postgres:9.4
lb:
  image: tutum/haproxy
  links: [web]
  ports: ['80:80']
";

const NEW: &str = "services:
  web: { image: 'shop/web:1', hostname: w, uts: host }
";

const TWO: &str = "name: two
services:
  api: { image: 'two/api:1', depends_on: [db] }
  db: { image: 'postgres:17' }
  web: { image: 'two/web:1' }
";

const SCALED: &str = "name: hello
services:
  hello: { image: 'hello:1', cpus: '0.5', x-autoscale: { min: 2, max: 12, cpu: 60% } }
";

#[test]
fn console_blocks_of_the_pages_say_what_the_program_says() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let cluster = Cluster::start();
    let pages = tempfile::tempdir().unwrap();
    let config = cluster.dir.path().join("config.toml");
    let cases = trycmd::TestCases::new();
    cases.env("CONTROLLERCTL_CONFIG", config.display().to_string());
    for page in PAGES {
        let at = pages.path().join(page);
        symlink(docs.canonicalize().unwrap().join(page), &at).unwrap();
        let inside = at.with_extension("in");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("docker-compose.yml"), OLD).unwrap();
        std::fs::write(inside.join("shop.yaml"), NEW).unwrap();
        std::fs::write(inside.join("two.yaml"), TWO).unwrap();
        std::fs::write(inside.join("scaled.yaml"), SCALED).unwrap();
        cases.case(&at);
    }
    cases.run();
}
