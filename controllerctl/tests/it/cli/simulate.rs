//! `autoscale simulate`.

use super::fake::Cluster;
use super::{json, run};

fn file(cluster: &Cluster, policy: &str) -> String {
    let text = format!(
        "name: hello\nservices:\n  hello: {{ image: 'hello:1', ports: ['80:8000'], cpus: '0.5', x-autoscale: {policy} }}\n  \
         plain: {{ image: 'hello:1' }}\n"
    );
    let path = cluster.dir.path().join("scaled.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_would_have_been_is_told_beside_what_was() {
    let cluster = Cluster::start();
    let file = file(&cluster, "{ min: 2, max: 6, cpu: 60% }");
    let args = ["autoscale", "simulate", "-f", &file, "hello"];
    let (code, out, err) = run(&cluster, &args);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for words in [
        "hello/hello  2026-11-18 11:05 to 2026-11-18 11:06 UTC, 1m recorded",
        "as it was  2    3    2.5     1        0.0            40s (66 %)",
        "simulated  2    6    4.7     1        0.1            10s (16 %)",
        "2026-11-18T11:06:00.000Z  2 -> 6  cpu 90% of 60%",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(!out.contains('█'), "a chart where nobody looks: {out}");
    let all = [&args[..], &["-o", "json", "--since", "2026-11-18"]].concat();
    let all = json(&cluster, &all);
    assert_eq!(
        (&all["would"]["max"], &all["was"]["changes"]),
        (&6.into(), &1.into())
    );
    assert_eq!(all["points"].as_array().unwrap().len(), 6);
    let later = [&args[..], &["--since", "1s"]].concat();
    let (code, _, err) = run(&cluster, &later);
    assert!(code == 1 && err.contains("nothing is recorded"), "{err}");
    assert_eq!(all["changes"][0]["cause"], "cpu 90% of 60%");
    assert_eq!(
        run(&cluster, &[&args[..], &["-q"]].concat()).1,
        "hello/hello\n"
    );
    let yaml = run(&cluster, &[&args[..], &["-o", "yaml"]].concat()).1;
    assert!(yaml.contains("service: hello/hello"), "{yaml}");
}

#[test]
fn what_is_not_recorded_is_said_and_nothing_at_all_is_an_error() {
    let cluster = Cluster::start();
    let some = file(&cluster, "{ min: 2, max: 6, cpu: 60%, queue: 1 }");
    let (code, _, err) = run(&cluster, &["autoscale", "simulate", "-f", &some, "hello"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains(
            "! nothing is recorded of queue, so the others decide alone; recorded: cpu, memory"
        ),
        "{err}"
    );
    let none = file(&cluster, "{ min: 2, max: 7, cpu: 60% }");
    let (code, out, err) = run(&cluster, &["autoscale", "simulate", "-f", &none, "hello"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("nothing is recorded of cpu"), "{err}");
    let slow = file(&cluster, "{ min: 2, max: 6, latency: 200ms }");
    let (code, _, err) = run(&cluster, &["autoscale", "simulate", "-f", &slow, "hello"]);
    assert!(
        code == 0 && err.contains("it is replayed as it was"),
        "{err}"
    );
    for (service, words) in [
        ("helo", "there is no service \"helo\" in that file"),
        ("plain", "plain has no x-autoscale in that file"),
        ("other/hello", "there is no such service"),
    ] {
        let (code, _, err) = run(&cluster, &["autoscale", "simulate", "-f", &slow, service]);
        assert!(code == 1 && err.contains(words), "{service}: {err}");
    }
}
