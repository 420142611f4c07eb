//! Whose token it is, by what the API server says of it.

use coppice_api::cluster::SIGNING_AUDIENCE;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;

use super::Refusal;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A pod that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its account.
    pub service_account: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
}

// === impl TokenIdentity ===

impl TokenIdentity {
    /// The pod that the token is bound to.
    pub(super) fn of(status: TokenReviewStatus) -> Result<Self, Refusal> {
        if status.authenticated != Some(true) {
            let why = status.error.filter(|error| !error.is_empty());
            return Err(Refusal::TokenRefused(
                why.unwrap_or_else(|| "the API server does not know it".to_owned()),
            ));
        }
        // Without this a token made for the API server would do too: an API server that
        // does not know audiences authenticates it and names none.
        let audiences = status.audiences.unwrap_or_default();
        if !audiences.iter().any(|audience| audience == SIGNING_AUDIENCE) {
            let why = format!("it is not for the audience {SIGNING_AUDIENCE}");
            return Err(Refusal::TokenRefused(why));
        }
        let user = status.user.unwrap_or_default();
        let username = user.username.unwrap_or_default();
        let account = username.strip_prefix("system:serviceaccount:");
        let (namespace, service_account) =
            account.and_then(|account| account.split_once(':')).ok_or(Refusal::NotAPod)?;
        let extra = user.extra.unwrap_or_default();
        let only = |key: &str| match extra.get(key).map(Vec::as_slice) {
            Some([value]) if !value.is_empty() => Ok(value.clone()),
            _ => Err(Refusal::NotAPod),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pod: only(POD_NAME)?,
            pod_uid: only(POD_UID)?,
        })
    }
}
