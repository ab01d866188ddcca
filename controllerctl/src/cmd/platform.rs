//! `image push --platform`: one image of those that an engine keeps under one name.

use longshore_model::spec::Platform;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::archive::{self, Member};
use crate::engine::{Engine, Image};
use crate::failure::{Exit, Failure};
use crate::progress::{Reporter, Stage};

/// As people write it.
pub(super) fn parse(text: &str) -> Result<Platform, Failure> {
    Platform::parse(text).ok_or_else(|| {
        let failure = Failure::new(format!("--platform {text:?} is no platform"));
        failure.exit(Exit::Usage).hint("write OS/ARCH: linux/arm64")
    })
}

/// Is `has` what `wanted` asks for? A variant that is not named is any.
fn is(has: &Platform, wanted: &Platform) -> bool {
    (&has.os, &has.arch) == (&wanted.os, &wanted.arch)
        && (wanted.variant.is_empty() || has.variant == wanted.variant)
}

/// The image of that platform; `image` is the one that the engine takes by itself.
///
/// # Errors
/// The engine has it for others only.
pub(super) async fn of(
    engine: &Engine,
    (name, image): (&str, Image),
    wanted: &Platform,
    reporter: &mut Reporter,
) -> Result<Image, Failure> {
    if Platform::parse(&image.platform).is_some_and(|own| is(&own, wanted)) {
        return Ok(image);
    }
    let text = format!(
        "Looking for {wanted}: the engine takes {} by itself",
        image.platform
    );
    reporter.say(name, None, Stage::Working, &text);
    let stream = StreamReader::new(Box::pin(engine.export(name)));
    let input = SyncIoBridge::new(stream);
    let read = tokio::task::spawn_blocking(move || archive::members(input)).await;
    let members = match read {
        Ok(members) => members?,
        Err(error) => return Err(Failure::new("cannot read the image").because(error)),
    };
    let found = members.iter().find(|member| is(&member.platform, wanted));
    let Some(Member {
        platform,
        diff_ids,
        config,
    }) = found
    else {
        reporter.finish();
        return Err(absent(name, wanted, &members));
    };
    Ok(Image {
        id: config.clone(),
        diff_ids: diff_ids.clone(),
        platform: platform.to_string(),
    })
}

fn absent(name: &str, wanted: &Platform, members: &[Member]) -> Failure {
    let has: Vec<String> = members.iter().map(|one| one.platform.to_string()).collect();
    let has = has.join(", ");
    Failure::new(format!(
        "the engine here has {name:?} for {has}, not for {wanted}"
    ))
    .hint(format!(
        "docker pull --platform {wanted} {name}; an engine with the classic image store keeps one \
         platform of a name, one with the containerd store all that were pulled"
    ))
}
