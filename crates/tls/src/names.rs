//! Whom a certificate names.

use x509_parser::parse_x509_certificate;
use x509_parser::prelude::GeneralName;

/// The URIs that a certificate (DER) names; none if it cannot be read.
#[must_use]
pub fn uris(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}
