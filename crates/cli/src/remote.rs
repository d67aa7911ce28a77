//! Reading from a server that the operator named: over TLS or from this machine, bounded, and never led astray.

use reqwest::{Response, Url, header, redirect::Policy};

/// What goes wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// An address that is none, or one that would be asked in the clear.
    #[error("{url}: {why}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No answer.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// An answer that is none.
    #[error("{host} answers {status} to {path}")]
    Status {
        /// The host.
        host: String,
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that is larger than what it may be.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// The server wants a credential in a way that is not known, or none was given.
    #[error("{host} asks for a credential: {why}")]
    Challenge {
        /// The host.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// Other bytes than were asked for.
    #[error("{path} is {computed}, not {expected}")]
    Digest {
        /// What was asked for.
        path: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came.
        computed: String,
    },
}

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// A client that follows redirects to TLS only, or, of a server that is itself asked in the clear, to that server.
pub fn client(base: &Url) -> Result<reqwest::Client, RemoteError> {
    let origin = base.origin();
    let follow = Policy::custom(move |attempt| {
        let safe = attempt.url().scheme() == "https"
            || (origin.ascii_serialization().starts_with("http://") && attempt.url().origin() == origin);
        if safe && attempt.previous().len() <= 5 { attempt.follow() } else { attempt.stop() }
    });
    let mut client = reqwest::Client::builder().redirect(follow).timeout(TIMEOUT);
    if is_loopback(base) {
        client = client.no_proxy();
    }
    client.build().map_err(|e| unreachable(base, &e))
}

/// An address that may be asked: TLS, this machine, or in the clear when the operator says so.
pub fn address(text: &str, plain_http: bool) -> Result<Url, RemoteError> {
    let wrong = |why| RemoteError::Address { url: text.to_owned(), why };
    let url = Url::parse(text).map_err(|_| wrong("it is not an address"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_http || is_loopback(&url) => Ok(url),
        "http" => Err(wrong("it would be asked in the clear; use https")),
        _ => Err(wrong("it is neither https nor http")),
    }
}

/// Whether the host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The whole body, unless it is larger than the limit.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, RemoteError> {
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(&url, &e))? {
        if body.len() + chunk.len() > limit {
            return Err(RemoteError::TooLarge { path: url.path().to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The next page of a list, on the same server or none.
pub fn next(response: &Response, base: &Url) -> Option<Url> {
    let links = response.headers().get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
        is_next.then(|| target.to_owned())
    })?;
    base.join(&next).ok().filter(|url| url.origin() == base.origin())
}

/// The innermost cause says what happened: "connection refused", "timed out".
pub fn unreachable(url: &Url, error: &reqwest::Error) -> RemoteError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    RemoteError::Unreachable {
        host: url.host_str().unwrap_or_default().to_owned(),
        reason: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_the_clear() {
        for (text, plain, allowed) in [
            ("https://registry.acme.test", false, true),
            ("http://registry.acme.test", false, false),
            ("http://registry.acme.test", true, true),
            ("http://127.0.0.1:5000", false, true),
            ("http://[::1]:5000", false, true),
            ("http://127.0.0.1.acme.test", false, false),
            ("file:///etc/passwd", true, false),
        ] {
            assert_eq!(address(text, plain).is_ok(), allowed, "{text}");
        }
    }
}
