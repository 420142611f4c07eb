//! Which hosts a request may be addressed to.
//!
//! A web page can make a browser send requests to loopback, under the page's own
//! host name if its DNS points there. Requests of a local client name loopback.

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;

use super::problem::{Answer, Kind, Problem};

/// Refuses a request that is addressed to a foreign host. `also` is one more
/// name that is ours: the host of `COPPICE_URL`.
pub(crate) fn check(parts: &Parts, also: Option<&str>) -> Answer<()> {
    let is_ours = |authority: &str| {
        let host = without_port(authority);
        is_loopback(host) || also.is_some_and(|also| also.eq_ignore_ascii_case(host))
    };
    // HTTP/2, and HTTP/1.1 to a proxy, name the host in the target.
    if parts.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Problem::malformed("the header Host is given twice: leave one out"));
    }
    let in_target = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    let mut named = in_target.into_iter().chain(
        // A header that is no text names no host of ours.
        parts.headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default()),
    );
    let Some(first) = named.next() else {
        return Err(Problem::new(
            Kind::Misdirected,
            "the request names no host: send Host: 127.0.0.1",
        ));
    };
    match std::iter::once(first).chain(named).find(|authority| !is_ours(authority)) {
        None => Ok(()),
        Some(foreign) => Err(Problem::new(
            Kind::Misdirected,
            format!(
                "{foreign:?} is not served here: address the agent as 127.0.0.1 or localhost, or set \
                 `appUrl` (COPPICE_URL) to the URL by which the app knows it"
            ),
        )),
    }
}

/// The host of an authority; brackets stay around an IPv6 address.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "127.0.0.1"
        || host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn verdict(host: Option<&str>, also: Option<&str>) -> bool {
        let mut request = Request::builder().uri("/v1/health");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        check(&request.body(()).unwrap().into_parts().0, also).is_ok()
    }

    #[test]
    fn only_loopback_and_the_given_host_are_ours() {
        for host in
            ["127.0.0.1:4437", "127.0.0.1", "localhost", "LocalHost:80", "[::1]:4437", "127.9.9.9"]
        {
            assert!(verdict(Some(host), None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "[::1",
            "127.0.0.1@evil",
        ] {
            assert!(!verdict(Some(host), None), "{host}");
        }
        let twice = Request::builder().header(HOST, "localhost").header(HOST, "localhost");
        assert!(check(&twice.body(()).unwrap().into_parts().0, None).is_err());
        assert!(!verdict(None, None), "a request without a host is not for us");
        assert!(verdict(Some("coppice.local:4437"), Some("coppice.local")));
    }
}
