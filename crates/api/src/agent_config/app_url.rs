//! The URL by which an app knows its agent: what `COPPICE_URL` holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `http://host:port`, without a path.
///
/// ```
/// use coppice_api::AppUrl;
///
/// let url: AppUrl = "http://coppice.local:4437".parse()?;
/// assert_eq!(url.host(), "coppice.local");
/// # Ok::<(), coppice_api::AppUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppUrl(String);

/// The text is no URL of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no URL of the app's API: write http://host:port, as in http://127.0.0.1:4437")]
pub struct AppUrlError {
    text: String,
}

impl AppUrl {
    /// The host, as requests name it; brackets stay around an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        host(&self.0).unwrap_or_default()
    }
}

/// The host of a URL that has a host, perhaps a port, and nothing else.
fn host(url: &str) -> Option<&str> {
    let (scheme, authority) = url.split_once("://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    (scheme.eq_ignore_ascii_case("http") && (is_address || is_name) && has_port).then_some(host)
}

impl FromStr for AppUrl {
    type Err = AppUrlError;

    fn from_str(text: &str) -> Result<Self, AppUrlError> {
        let read = host(text).map(|_| Self(text.to_owned()));
        read.ok_or_else(|| AppUrlError { text: text.to_owned() })
    }
}

impl TryFrom<String> for AppUrl {
    type Error = AppUrlError;

    fn try_from(text: String) -> Result<Self, AppUrlError> {
        text.parse()
    }
}

impl From<AppUrl> for String {
    fn from(url: AppUrl) -> Self {
        url.0
    }
}

impl fmt::Display for AppUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host() {
        for (url, host) in [
            ("http://127.0.0.1:4437", "127.0.0.1"),
            ("http://coppice.local", "coppice.local"),
            ("HTTP://coppice.local:80/", "coppice.local"),
            ("http://[::1]:4437", "[::1]"),
            ("http://[::1]", "[::1]"),
        ] {
            assert_eq!(url.parse::<AppUrl>().unwrap().host(), host, "{url}");
        }
        for url in [
            "",
            "coppice.local:4437",
            "https://coppice.local:4437",
            "http://",
            "http://:4437",
            "http://a:0",
            "http://a:port",
            "http://a/v1",
            "http://user@a",
            "http://::1",
            "http://[::1",
        ] {
            let error = url.parse::<AppUrl>().unwrap_err().to_string();
            assert!(error.contains("http://host:port"), "{url}: {error}");
        }
    }
}
