//! Images of registries, pulled by the engine with the credentials that the cluster has for them.
//! These are asked for with each pull, handed to the engine with it, and kept nowhere.

use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use http::HeaderValue;
use longshore_model::RegistryHost;

use super::docker::DockerRuntime;
use super::{ErrorKind, RuntimeError};
use crate::images::Credentials;

const REGISTRY_AUTH: &str = "x-registry-auth";
/// What engines and registries say of credentials that are wrong, or of none.
const UNAUTHORIZED: [&str; 6] = [
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "401 ",
    "incorrect username or password",
    "failed to authorize",
];
/// What they say where somebody is known and may not, or where there is no such image.
const DENIED: [&str; 3] = ["access denied", "denied:", "403 "];

impl DockerRuntime {
    /// Pulls what the controller does not hold.
    pub(super) async fn pull_public(&self, name: &str) -> Result<(), RuntimeError> {
        // Without a tag the engine would fetch every tag that there is.
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_whole = last.contains(':') || name.contains('@');
        let tag = if is_whole { "" } else { "latest" };
        let host = RegistryHost::of_image(name);
        let (credentials, unasked) = self.credentials(name).await;
        let handed = credentials.as_ref().map(|credentials| DockerCredentials {
            username: Some(credentials.user.clone()),
            password: Some(credentials.password.expose().to_owned()),
            serveraddress: host.as_ref().map(|host| host.server_address().to_owned()),
            ..DockerCredentials::default()
        });
        let pulled = self
            .fetch(&format!("pulling {name}"), name, tag, handed)
            .await;
        pulled.map_err(|error| match &host {
            Some(host) => explained(error, host, credentials.as_ref(), unasked.as_deref()),
            None => error,
        })
    }

    /// Credentials for an image's registry; none, perhaps with why they could not be asked for. Most
    /// images need none, so a controller that is away is no reason not to pull.
    async fn credentials(&self, name: &str) -> (Option<Credentials>, Option<String>) {
        let Some(held) = self.held() else {
            return (None, None);
        };
        match held.source.credentials(name).await {
            Ok(credentials) => (credentials, None),
            Err(error) => (None, Some(error.to_string())),
        }
    }
}

/// Credentials in the letters that engines read, the URL-safe ones of base64. The library writes the
/// others, and engines take what they cannot read for no credentials at all: with a password like
/// `a~?`, nobody would be told why.
pub(super) fn readable(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(REGISTRY_AUTH) {
        let text = value
            .to_str()
            .map(|text| text.replace('+', "-").replace('/', "_"));
        if let Ok(Ok(mut safe)) = text.map(|text| text.parse::<HeaderValue>()) {
            safe.set_sensitive(true);
            *value = safe;
        }
    }
    request
}

/// The same refusal in words of who was refused, with the way out.
fn explained(
    mut error: RuntimeError,
    host: &RegistryHost,
    credentials: Option<&Credentials>,
    unasked: Option<&str>,
) -> RuntimeError {
    let said = error.detail.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    let (is_unauthorized, is_denied) = (says(&UNAUTHORIZED), says(&DENIED));
    if !(is_unauthorized || is_denied)
        || !matches!(
            error.kind,
            ErrorKind::Refused | ErrorKind::ImageAbsent | ErrorKind::NotFound
        )
    {
        return error;
    }
    let login = format!("controllerctl registry login {host}");
    let detail = error.detail.trim();
    error.detail = match (credentials, unasked) {
        (Some(Credentials { user, .. }), _) if is_unauthorized && !is_denied => format!(
            "registry {host} refused the credentials of {user} ({detail}); give others: {login} -u \
             {user}"
        ),
        (Some(Credentials { user, .. }), _) => format!(
            "registry {host} does not give it to {user}, or has none of that name ({detail})"
        ),
        (None, Some(why)) => format!("registry {host} wants credentials ({detail}), and {why}"),
        (None, None) => format!(
            "registry {host} wants credentials, or has none of that name ({detail}); give them: {login} \
             -u USER"
        ),
    };
    error
}

#[cfg(test)]
mod tests {
    use bollard::BollardRequest;
    use longshore_model::SecretText;

    use super::*;

    #[test]
    fn credentials_are_written_as_engines_read_them() {
        let plain = |text: &str| {
            let request = http::Request::builder().header("X-Registry-Auth", text);
            let body = http_body_util::Either::Left(http_body_util::Full::default());
            let sent: BollardRequest = readable(request.body(body).unwrap());
            let value = &sent.headers()[REGISTRY_AUTH];
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(plain("ab+/c+=="), "ab-_c-==");
    }

    #[test]
    fn who_was_refused_is_said_with_the_way_out() {
        let ana = Credentials {
            user: "ana".into(),
            password: SecretText::new("hunter2"),
        };
        let said = |detail: &str, credentials: Option<&Credentials>, unasked: Option<&str>| {
            let error = RuntimeError {
                kind: ErrorKind::Refused,
                attempted: "pulling".into(),
                detail: detail.into(),
            };
            let host = "r.example.com:5000".parse().unwrap();
            explained(error, &host, credentials, unasked).detail
        };
        let wrong = "Get \"https://r.example.com:5000/v2/\": unauthorized: authentication required";
        let told = said(wrong, Some(&ana), None);
        assert!(
            told.starts_with("registry r.example.com:5000 refused the credentials of ana (Get "),
            "{told}"
        );
        assert!(
            told.ends_with("give others: controllerctl registry login r.example.com:5000 -u ana"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
        let denied = "pull access denied for x, repository does not exist or may require 'docker \
                      login': denied: requested access to the resource is denied";
        let told = said(denied, Some(&ana), None);
        assert!(
            told.contains("does not give it to ana, or has none"),
            "{told}"
        );
        let none = "Head \"https://r/v2/x\": no basic auth credentials";
        let told = said(none, None, None);
        assert!(
            told.ends_with("registry login r.example.com:5000 -u USER"),
            "{told}"
        );
        let told = said(none, None, Some("the controller cannot be reached: x"));
        assert!(
            told.ends_with("and the controller cannot be reached: x"),
            "{told}"
        );
        for other in ["no space left on device", "manifest unknown", "i/o timeout"] {
            assert_eq!(said(other, Some(&ana), None), other);
        }
    }
}
