//! `links`: today services of an app know each other by name.

use super::{Work, is_empty, words};

/// Takes `links` away. That one service starts after another is said by nobody any more: programs
/// that cannot wait for each other stop when either is moved, too.
pub(super) fn replace(work: &mut Work) {
    for name in work.service_names() {
        let Some((key, links)) = work.service(&name).and_then(|s| s.remove("links")) else {
            continue;
        };
        for (link, place) in words(&links) {
            one(work, &name, &link, place);
        }
        if is_empty(&links) {
            work.gone(key.place, format!("{name}.links"), "it is empty");
        }
    }
}

fn one(work: &mut Work, name: &str, link: &str, place: crate::compose::source::Place) {
    let (to, alias) = link.split_once(':').unwrap_or((link, link));
    let path = format!("services.{name}.links");
    let was = format!("{name}.links {link}");
    if work.service(to).is_none() {
        let why = format!("there is no service {to:?}");
        return work.refuse(place, &path, &why, "name one of this file, or drop it");
    }
    if alias == to {
        let why = "services of an app know each other by name";
        return work.gone(place, was, why);
    }
    let why = format!("`{to}` is known by its own name only");
    let help = format!("let the program say {to:?} instead of {alias:?}, and drop the alias");
    work.refuse(place, &path, &why, &help);
}
