//! Authorities without a cluster, for tests.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use prometheus::Registry;
use time::OffsetDateTime;
use time::macros::datetime;

use super::authority::{AuthorityName, AuthoritySet};
use super::{Authorities, CertificateSettings, Timings, WallClock, rotation};

/// When all tests happen.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);
/// The cluster of all tests.
pub(crate) const CLUSTER: &str = "7f3c2d1e-0000-4000-8000-000000000001";

/// Authorities that nobody has read yet, and an API server that answers nothing.
pub(crate) fn authorities(clock: WallClock) -> Authorities {
    let nobody = tower::service_fn(|_request: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no API server"))
    });
    authorities_of(Client::new(nobody, "default"), clock)
}

/// Authorities that nobody has read yet.
pub(crate) fn authorities_of(client: Client, clock: WallClock) -> Authorities {
    let settings = CertificateSettings {
        namespace: "coppice-system".to_owned(),
        service: "coppice-operator".to_owned(),
        service_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        webhook_configuration: "coppice-injector".to_owned(),
        cluster: CLUSTER.to_owned(),
        serving_timings: Timings::of(AuthorityName::Serving),
        peers_timings: Timings::of(AuthorityName::Peers),
    };
    Authorities::new(client, settings, clock, &Registry::new()).expect("an empty registry")
}

/// New authorities, as a Secret.
pub(crate) fn secret(now: OffsetDateTime) -> Secret {
    let first = |name| rotation::first(name, None, now).expect("a key can be made");
    secret_of(&AuthoritySet {
        serving: first(AuthorityName::Serving),
        peers: first(AuthorityName::Peers),
    })
}

/// These authorities, as a Secret.
pub(crate) fn secret_of(set: &AuthoritySet) -> Secret {
    Secret { data: Some(set.write()), ..Secret::default() }
}

/// Has a replica see this Secret.
pub(crate) fn show(authorities: &Authorities, secret: &Secret) {
    authorities.change(|state| state.see_secret(Some(secret)));
}
