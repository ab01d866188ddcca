//! `x-autoscale`.

use super::Form::{Amount, Choice, Either, List, Map, Rate, Share, Steps, Text, Time, Whole};
use super::{Form, Key, key};
use longshore_model::AutoscaleSpec;

const MOST: u64 = AutoscaleSpec::REPLICAS_MAX as u64;

pub(super) const KEY: Key = key(
    "x-autoscale",
    Map(KEYS, &["max"]),
    "How the count of replicas follows the load. Signals stand in metrics and steps, or right here as a \
     short form; of all recommendations the highest holds. docs/autoscaling.md",
    &["{ min: 2, max: 12, cpu: 60% }"],
);

const KEYS: &[Key] = &[
    key("min", Whole(0, MOST), "Never fewer. 0 only with requests, queue, concurrency or prometheus.", &["2"]).or("1"),
    key("max", Whole(1, MOST), "Never more.", &["12"]),
    key(
        "metrics",
        List(SIGNALS, &[]),
        "Signals with targets; at most 16. The highest recommendation wins.",
        &["[{ requests: 100/s }, { cpu: 60% }]"],
    ),
    key(
        "steps",
        List(STEPS, &[]),
        "Signals with thresholds; at most 16. Each threshold sets a count (2) or changes it (+2); below the \
         lowest nothing is asked for.",
        &["[{ node_cpu: { each: 10% } }]", "[{ cpu: { 20%: 2, 80%: +2 } }]"],
    ),
    key("window", Time, "Samples are averaged over this; 1s to 2m.", &["30s"]).or("30s"),
    key(
        "warmup",
        Time,
        "A new replica's own CPU and memory do not count until then, nor is it one that carried the load.",
        &["30s"],
    )
    .or("30s"),
    key(
        "on_missing",
        Choice(&["hold", "scale-to-min"]),
        "Without any samples: hold the count, or give back what does not serve anyway.",
        &["hold"],
    )
    .or("hold"),
    key(
        "mode",
        Choice(&["on", "dry-run", "approve"]),
        "on acts; dry-run says and does not; approve asks first.",
        &["approve"],
    )
    .or("on"),
    key("warm", Whole(0, MOST), "Replicas kept paused, proven healthy.", &["1"]).or("0"),
    key(
        "schedules",
        List(SCHEDULES, &["cron"]),
        "Other bounds at certain times; at most 16. Bounds, not recommendations: inside them the signals \
         decide.",
        &["[{ name: office, cron: \"0 7 * * MON-FRI\", for: 12h, timezone: Europe/Brussels, min: 4 }]"],
    ),
    key("behavior", Map(BEHAVIOR, &[]), "How fast it goes up and down.", &["{ scale_down: { stabilization: 300s } }"]),
    NODE_CPU,
    CPU,
    MEMORY,
    REQUESTS,
    QUEUE,
    CONCURRENCY,
    LATENCY,
    ERRORS,
    PROMETHEUS,
];

const SIGNALS: &[Key] = &[
    NODE_CPU,
    CPU,
    MEMORY,
    REQUESTS,
    QUEUE,
    CONCURRENCY,
    LATENCY,
    ERRORS,
    PROMETHEUS,
];

const NODE_CPU: Key = key(
    "node_cpu",
    Share,
    "Mean CPU of the nodes that may run the service.",
    &["60%"],
);
const CPU: Key = key(
    "cpu",
    Share,
    "Mean CPU of warmed-up healthy replicas, as a share of limits.cpus, else of reservations.cpus.",
    &["60%"],
);
const MEMORY: Key = key(
    "memory",
    Share,
    "The same of memory: a share of limits.memory, else of the reservation.",
    &["80%"],
);
const REQUESTS: Key = key(
    "requests",
    Rate,
    "Requests by HAProxy's counters of all edges, for each replica.",
    &["100/s"],
);
const QUEUE: Key = key(
    "queue",
    Amount,
    "Requests that wait in HAProxy, for each replica.",
    &["1"],
);
const CONCURRENCY: Key = key(
    "concurrency",
    Amount,
    "Requests at work at a time, for each replica.",
    &["40"],
);
const LATENCY: Key = key(
    "latency",
    Either(
        &Time,
        &Map(
            &[key(
                "average",
                Time,
                "Mean response time, weighted by requests.",
                &["250ms"],
            )],
            &["average"],
        ),
    ),
    "Mean response time. With fewer than 20 requests in the window it says nothing.",
    &["250ms", "{ average: 250ms }"],
);
const ERRORS: Key = key(
    "errors",
    Share,
    "Answers of 500 and above as a share of all, at most 100%.",
    &["5%"],
);

const QUERY: Key = key(
    "query",
    Text,
    "What Prometheus is asked: one number.",
    &["\"sum(jobs_waiting)\""],
);
const URL: Key = key(
    "url",
    Text,
    "The server. Only the one of the controller's settings is asked, so it may be left away.",
    &["\"http://10.0.0.9:9090\""],
);

const PROMETHEUS: Key = key(
    "prometheus",
    Map(
        &[
            QUERY,
            URL,
            key("target", Amount, "The number that is aimed at.", &["50"]),
            key(
                "type",
                Choice(&["average", "value"]),
                "average: the number is divided by the count of replicas; value: it is compared as it is.",
                &["value"],
            )
            .or("average"),
        ],
        &["query", "target"],
    ),
    "One number of a query. Needs [prometheus] url in the controller's settings.",
    &["{ query: \"sum(jobs_waiting)\", target: 50 }"],
);

const STEPS: &[Key] = &[
    steps(
        "node_cpu",
        "Thresholds of the mean CPU of the nodes.",
        &["{ each: 10% }"],
    ),
    steps(
        "cpu",
        "Thresholds of the replicas' CPU.",
        &["{ 20%: 2, 80%: +2 }"],
    ),
    steps(
        "memory",
        "Thresholds of the replicas' memory.",
        &["{ 50%: 3 }"],
    ),
    steps(
        "requests",
        "Thresholds of the sum of requests.",
        &["{ 100/s: 2 }"],
    ),
    steps(
        "queue",
        "Thresholds of the sum of waiting requests.",
        &["{ 5: +1 }"],
    ),
    steps(
        "concurrency",
        "Thresholds of the sum of requests at work.",
        &["{ 40: 2 }"],
    ),
    steps(
        "latency",
        "Thresholds of the mean response time.",
        &["{ 250ms: +1 }"],
    ),
    steps(
        "errors",
        "Thresholds of the share of errors.",
        &["{ 5%: +1 }"],
    ),
    key(
        "prometheus",
        Map(
            &[
                QUERY,
                URL,
                key(
                    "steps",
                    Steps,
                    "Thresholds of the number.",
                    &["{ 10: 2, 100: 5 }"],
                ),
            ],
            &["query", "steps"],
        ),
        "Thresholds of one number of a query.",
        &["{ query: jobs, steps: { 10: 2, 100: 5 } }"],
    ),
];

const fn steps(name: &'static str, doc: &'static str, examples: &'static [&'static str]) -> Key {
    key(name, Steps, doc, examples)
}

const SCHEDULES: &[Key] = &[
    key("name", Text, "How reports call it.", &["office"]).or("the cron fields"),
    key(
        "cron",
        Text,
        "When it begins: minute, hour, day of month, month, day of week.",
        &["\"0 7 * * MON-FRI\""],
    ),
    key(
        "for",
        Time,
        "How long it holds: 1m to 1d. This or end.",
        &["12h"],
    ),
    key(
        "end",
        Text,
        "When it ends, as cron fields. This or for.",
        &["\"0 19 * * MON-FRI\""],
    ),
    key("timezone", Text, "IANA name.", &["Europe/Brussels"]).or("UTC"),
    key("min", Whole(0, MOST), "Never fewer meanwhile.", &["4"]).or("the policy's"),
    key("max", Whole(1, MOST), "Never more meanwhile.", &["20"]).or("the policy's"),
];

const BEHAVIOR: &[Key] = &[
    direction(
        "scale_up",
        "Upwards: at once, at most 4 replicas or 100 per cent in 15s, whichever is more.",
    ),
    direction(
        "scale_down",
        "Downwards: stabilization 300s, at most 100 per cent in 15s.",
    ),
];

const fn direction(name: &'static str, doc: &'static str) -> Key {
    key(
        name,
        DIRECTION,
        doc,
        &["{ stabilization: 60s, tolerance: 0.1 }"],
    )
}

const DIRECTION: Form = Map(
    &[
        key(
            "stabilization",
            Time,
            "The most careful recommendation of this time holds; the count turns into this direction at most \
             once in it.",
            &["300s"],
        )
        .or("up 0s, down 300s"),
        key(
            "tolerance",
            Form::Decimal(10),
            "Relative distance from the target inside which nothing changes.",
            &["0.1"],
        )
        .or("0.1"),
        key(
            "policies",
            List(
                &[
                    key("replicas", Whole(1, MOST), "At most so many within the period. This or percent.", &["4"]),
                    key("percent", Whole(1, 10_000), "At most such a share of the count. This or replicas.", &["100"]),
                    key("period", Time, "The period.", &["15s"]),
                ],
                &["period"],
            ),
            "At most so much within a period; select says which of them holds.",
            &["[{ replicas: 4, period: 15s }, { percent: 100, period: 15s }]"],
        ),
        key(
            "select",
            Choice(&["max", "min"]),
            "max: the most permissive of the policies; min: the strictest.",
            &["min"],
        )
        .or("max"),
    ],
    &[],
);
