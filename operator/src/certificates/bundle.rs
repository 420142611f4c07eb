//! The webhook configuration's `caBundle`: what is there, and how it is set.
//!
//! The chart makes the webhook configuration without it, because only a running
//! operator knows its authority. Nothing else of the object is touched, so an upgrade
//! of the chart and the operator do not undo each other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::authority::fingerprint;

/// What the entries of a webhook configuration believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObservedBundles {
    pub(crate) resource_version: String,
    /// Per entry, as it stands there.
    entries: Vec<Vec<u8>>,
}

// === impl ObservedBundles ===

impl ObservedBundles {
    pub(crate) fn of(configuration: &MutatingWebhookConfiguration) -> Self {
        let entries = configuration.webhooks.iter().flatten();
        let bundle = |entry: &k8s_openapi::api::admissionregistration::v1::MutatingWebhook| {
            entry.client_config.ca_bundle.clone().unwrap_or_default().0
        };
        Self {
            resource_version: configuration.metadata.resource_version.clone().unwrap_or_default(),
            entries: entries.map(bundle).collect(),
        }
    }

    /// Whether every entry believes the certificate with this fingerprint. A
    /// configuration without entries calls nobody: no.
    pub(crate) fn believe(&self, wanted: &str) -> bool {
        let believes = |bundle: &Vec<u8>| {
            let certificates = CertificateDer::pem_slice_iter(bundle);
            certificates.flatten().any(|certificate| fingerprint(&certificate) == wanted)
        };
        !self.entries.is_empty() && self.entries.iter().all(believes)
    }

    /// The JSON patch that makes every entry believe `bundle` and nothing else; none
    /// if that is so. It applies to the very object that was observed, or fails.
    pub(crate) fn patch_to(&self, bundle: &str) -> Option<Value> {
        let differs = |(_, entry): &(usize, &Vec<u8>)| entry.as_slice() != bundle.as_bytes();
        let encoded = STANDARD.encode(bundle);
        let mut operations = vec![json!({
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": self.resource_version,
        })];
        operations.extend(self.entries.iter().enumerate().filter(differs).map(|(at, _)| {
            let path = format!("/webhooks/{at}/clientConfig/caBundle");
            json!({"op": "add", "path": path, "value": encoded})
        }));
        (operations.len() > 1).then_some(Value::Array(operations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(bundles: &[Option<&str>]) -> ObservedBundles {
        let entries: Vec<_> = bundles
            .iter()
            .map(|bundle| {
                let mut config = json!({"service": {"name": "s", "namespace": "n"}});
                if let Some(bundle) = bundle {
                    config["caBundle"] = STANDARD.encode(bundle).into();
                }
                json!({
                    "name": "x.coppice.dev", "clientConfig": config,
                    "sideEffects": "None", "admissionReviewVersions": ["v1"],
                })
            })
            .collect();
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "coppice-injector", "resourceVersion": "7"},
            "webhooks": entries,
        });
        ObservedBundles::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn only_entries_that_differ_are_patched_and_only_on_what_was_seen() {
        let patch = observed(&[Some("old"), Some("new"), None]).patch_to("new").unwrap();
        let value = STANDARD.encode("new");
        let expected = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value},
            {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": value},
        ]);
        assert_eq!(patch, expected);
        assert_eq!(observed(&[Some("new")]).patch_to("new"), None, "nothing is to be done");
    }

    #[test]
    fn a_certificate_is_believed_only_if_every_entry_holds_it() {
        let now = time::OffsetDateTime::UNIX_EPOCH;
        let pem = |name| super::super::issue::authority(name, now).unwrap().certificate;
        let (one, other) = (pem("one"), pem("other"));
        let print = fingerprint(&CertificateDer::from_pem_slice(one.as_bytes()).unwrap());
        let both = format!("{one}{other}");
        assert!(observed(&[Some(&one), Some(&both)]).believe(&print));
        assert!(!observed(&[Some(&both), Some(&other)]).believe(&print));
        assert!(!observed(&[Some(&one), None]).believe(&print));
        assert!(!observed(&[]).believe(&print), "no entry, no call");
    }
}
