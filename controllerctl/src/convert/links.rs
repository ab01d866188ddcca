//! `links`: today services of an app know each other by name.

use super::{Work, is_empty, retain, words};

/// Keeps of `links` what gives a name of its own. That one service starts after another is said by
/// nobody any more: programs that cannot wait for each other stop when either is moved, too.
pub(super) fn replace(work: &mut Work) {
    for name in work.service_names() {
        let links = work.service(&name).and_then(|s| s.get_mut("links"));
        let Some(links) = links else { continue };
        let all = words(links);
        retain(links, gives_a_name);
        if is_empty(links)
            && let Some(service) = work.service(&name)
        {
            service.remove("links");
        }
        for (link, place) in all {
            one(work, &name, &link, place);
        }
    }
}

/// `db:database` does, `db` and `db:db` do not.
fn gives_a_name(link: &str) -> bool {
    link.split_once(':').is_some_and(|(to, alias)| to != alias)
}

fn one(work: &mut Work, name: &str, link: &str, place: crate::compose::source::Place) {
    let to = link.split(':').next().unwrap_or(link);
    if work.service(to).is_none() {
        let path = format!("services.{name}.links");
        let why = format!("there is no service {to:?}");
        return work.refuse(place, &path, &why, "name one of this file, or drop it");
    }
    if !gives_a_name(link) {
        let why = "services of an app know each other by name";
        work.gone(place, format!("{name}.links {link}"), why);
    }
}
