//! Volumes of the node's own disk, one per claim.

use serde_json::{Value, json};

use super::{Cluster, Failure, fresh};

/// A `local` volume in a class of its own, so that no other claim takes it.
#[derive(Debug)]
pub struct LocalVolume<'a> {
    cluster: &'a Cluster,
    /// The name of the volume and of its class.
    pub name: String,
}

impl<'a> LocalVolume<'a> {
    /// A volume in a fresh folder of a node that takes pods. The kubelet does not make the
    /// folder: a pod does, with the app's image.
    ///
    /// # Errors
    ///
    /// If the cluster refuses it, or no node takes pods.
    pub fn new(cluster: &'a Cluster) -> Result<Self, Failure> {
        let name = format!("e2e-{}", fresh::suffix());
        let nodes = cluster.kubectl.json(&["get", "nodes"])?;
        let mut nodes = nodes["items"].as_array().into_iter().flatten();
        let node = nodes.find(|node| takes_pods(node)).ok_or("no node takes pods")?;
        let host = node["metadata"]["labels"]["kubernetes.io/hostname"].clone();
        let node = node["metadata"]["name"].clone();
        let path = format!("/tmp/coppice-e2e/{name}");
        cluster.kubectl.apply(&json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }))?;
        cluster.kubectl.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "restartPolicy": "Never", "nodeName": node, "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "app", "image": cluster.images.app, "imagePullPolicy": "IfNotPresent",
                    "args": ["idle"], "volumeMounts": [{"name": "folder", "mountPath": "/folder"}],
                }],
                "volumes": [{"name": "folder", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}],
            },
        }))?;
        cluster.kubectl.run(&[
            "--namespace",
            "default",
            "wait",
            "--for",
            "condition=Ready",
            "--timeout=60s",
            "pod",
            &name,
        ])?;
        cluster.kubectl.apply(&json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": name,
                "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]},
                ]}]}},
            },
        }))?;
        Ok(Self { cluster, name })
    }
}

/// Whether a pod that tolerates no taint may come to a node: where there are several, the
/// control plane's takes none.
fn takes_pods(node: &Value) -> bool {
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    !taints.any(|taint| taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute")
}

impl Drop for LocalVolume<'_> {
    fn drop(&mut self) {
        let kubectl = &self.cluster.kubectl;
        let _ =
            kubectl.run(&["--namespace", "default", "delete", "pod", &self.name, "--wait=false"]);
        let _ = kubectl.run(&["delete", "persistentvolume", &self.name, "--wait=false"]);
        let _ = kubectl.run(&["delete", "storageclass", &self.name, "--wait=false"]);
    }
}
