//! Where the webhook and the signing of certificates look things up: in what this replica
//! has seen, and where that may be behind, at the API server.

use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::PublishedGroup;
use coppice_api::v1alpha1::{ReplicationGroup, publish};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use coppice_api::cluster::SIGNING_AUDIENCE;

use crate::admission::GroupSource;
use crate::api_client::{CallError, call, call_opt, within};
use crate::certificates::signing::{SignablePod, SigningSource, TokenIdentity};
use crate::groups::{GroupStore, SeenGroup, groups_of};
use crate::pods::{Phase, PodStore, SeenPod};
use crate::readiness::Part;

/// How long a pod that is being made may be held up by a second look at the groups.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Looks things up. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    groups: GroupStore,
    pods: PodStore,
    listed: Part,
}

impl Sources {
    /// Of what was seen, which counts once it was `listed`.
    #[must_use]
    pub fn new(client: Client, groups: GroupStore, pods: PodStore, listed: Part) -> Self {
        Self { client, groups, pods, listed }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl GroupSource for Sources {
    async fn groups(&self, namespace: &str) -> Option<Vec<Arc<ReplicationGroup>>> {
        self.listed.is_ready().then(|| self.groups.standing_in_namespace(namespace))
    }

    async fn newest(&self, namespace: &str) -> Option<Vec<Arc<ReplicationGroup>>> {
        let api = groups_of(&self.client, namespace);
        let found = within(SECOND_LOOK, api.list(&ListParams::default())).await.ok()?;
        let seen = found.items.into_iter().map(SeenGroup::of);
        Some(seen.filter_map(|group| group.standing().cloned()).collect())
    }
}

impl SigningSource for Sources {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, CallError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![SIGNING_AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = call(api.create(&PostParams::default(), &review)).await?;
        Ok(reviewed.status.unwrap_or_default())
    }

    async fn pod(&self, identity: &TokenIdentity) -> Result<Option<SignablePod>, CallError> {
        let TokenIdentity { namespace, pod: pod_name, pod_uid, .. } = identity;
        let seen = self.pods.get(namespace, pod_name).filter(|pod| pod.uid == *pod_uid);
        if let Some(pod) = seen {
            return Ok(Some(signable(&pod)));
        }
        // An agent may ask before the watch has shown its pod.
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        Ok(call_opt(api.get(pod_name)).await?.map(|pod| signable(&SeenPod::of(pod))))
    }

    fn groups(&self, namespace: &str) -> Option<Vec<PublishedGroup>> {
        let standing = || self.groups.standing_in_namespace(namespace);
        self.listed
            .is_ready()
            .then(|| standing().iter().filter_map(|group| publish(group)).collect())
    }
}

fn signable(pod: &SeenPod) -> SignablePod {
    SignablePod {
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        labels: pod.labels.clone(),
        finished: pod.phase == Phase::Finished,
    }
}
