//! What agents are told of this operator: where it is, and by whom it is verified.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use coppice_api::cluster::{CONTRACT_VERSION, PublishedOperator};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::warn;

use crate::api_client::{CallError, call_opt};
use crate::args::Place;
use crate::certificates::PublishedAuthorities;
use crate::context::Announced;
use crate::outage::Outage;

/// How often the operator looks whether its own address is another.
const PERIOD: Duration = Duration::from_mins(1);
/// How often while it knows none.
const RETRY: Duration = Duration::from_secs(2);
/// The port of HTTPS, if the `Service` names none `https`.
const HTTPS: u16 = 443;

/// The addresses of the operator's `Service`, and its port; none while there is no such.
///
/// # Errors
///
/// If the API server does not answer.
pub async fn own_addresses(
    client: &Client,
    place: &Place,
) -> Result<Option<(Vec<IpAddr>, u16)>, CallError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &place.namespace);
    let found = call_opt(services.get(&place.service)).await?;
    Ok(found.as_ref().and_then(addresses_of))
}

/// Keeps `announced` current, for ever.
pub async fn announce(
    client: Client,
    place: Place,
    cluster: String,
    authorities: watch::Receiver<Option<PublishedAuthorities>>,
    announced: watch::Sender<Announced>,
) {
    tokio::join!(
        announce_place(client, place, cluster, &announced),
        announce_authorities(authorities, &announced)
    );
}

async fn announce_authorities(
    mut authorities: watch::Receiver<Option<PublishedAuthorities>>,
    announced: &watch::Sender<Announced>,
) {
    loop {
        if let Some(published) = authorities.borrow_and_update().clone() {
            announced.send_if_modified(|announced| {
                let new = Announced {
                    operator: announced.operator.clone(),
                    serving_pem: Some(published.serving_pem),
                    peers_pem: Some(published.peers_pem),
                };
                let differs = *announced != new;
                *announced = new;
                differs
            });
        }
        if authorities.changed().await.is_err() {
            // The authorities live as long as the process.
            return std::future::pending().await;
        }
    }
}

async fn announce_place(
    client: Client,
    place: Place,
    cluster: String,
    announced: &watch::Sender<Announced>,
) {
    let mut outage = Outage::default();
    loop {
        let found = own_addresses(&client, &place).await;
        match &found {
            Ok(Some((ips, port))) => {
                outage.worked();
                let operator = ips.first().map(|ip| PublishedOperator {
                    version: CONTRACT_VERSION,
                    cluster: cluster.clone(),
                    address: SocketAddr::new(*ip, *port),
                    server_name: place.server_name(),
                });
                announced.send_if_modified(|announced| {
                    let differs = announced.operator != operator;
                    announced.operator = operator;
                    differs
                });
            }
            // Agents keep the address that they were told.
            Ok(None) => {
                if outage.failed(&"not there") {
                    warn!(service = place.service, "the operator's own Service is not there");
                }
            }
            Err(error) => {
                if outage.failed(error) {
                    warn!(%error, "the operator's own Service cannot be read; trying again");
                }
            }
        }
        let is_known = announced.borrow().operator.is_some();
        tokio::time::sleep(if is_known { PERIOD } else { RETRY }).await;
    }
}

fn addresses_of(service: &Service) -> Option<(Vec<IpAddr>, u16)> {
    let spec = service.spec.as_ref()?;
    let texts = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in texts.filter_map(|text| text.parse().ok()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    let named = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some("https"));
    let port = named.and_then(|port| u16::try_from(port.port).ok()).unwrap_or(HTTPS);
    // A headless Service has no address that stays.
    (!ips.is_empty()).then_some((ips, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: &serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_first_address_is_that_of_the_clusters_first_family() {
        let spec = json!({
            "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ports": [{"name": "operations", "port": 8080}, {"name": "https", "port": 8443}],
        });
        let (ips, port) = addresses_of(&service(&spec)).unwrap();
        assert_eq!(ips, ["10.0.0.9".parse::<IpAddr>().unwrap(), "fd00::9".parse().unwrap()]);
        assert_eq!(port, 8443);
        assert_eq!(
            addresses_of(&service(&json!({"clusterIP": "None", "clusterIPs": ["None"]}))),
            None
        );
    }
}
