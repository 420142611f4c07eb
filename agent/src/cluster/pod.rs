//! Which pod this agent runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use coppice_api::cluster::{DATA_MOUNT, IDENTITY_DIR};

use crate::args::PodArgs;

/// The longest name of a replica.
const NAME_BYTES: usize = 63;

/// What Kubernetes tells a pod of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID: another pod of the same name has another.
    pub uid: String,
    /// Its addresses; the first one's family is preferred.
    pub ips: Vec<IpAddr>,
    /// Where key and certificate are kept, for as long as the pod lives.
    pub identity_dir: PathBuf,
}

/// A container that was not made by the operator's injector.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// A variable is missing.
    #[error(
        "--cluster needs {0}: the operator's injector sets it from the pod's fields; without a \
         cluster give --config or --group instead"
    )]
    Missing(&'static str),
    /// The addresses cannot be read.
    #[error("COPPICE_POD_IPS: {0:?} is no list of IP addresses")]
    Addresses(String),
}

impl Pod {
    /// Reads what is given.
    ///
    /// # Errors
    ///
    /// [`PodError`] for the first that is missing or malformed.
    pub fn read(args: &PodArgs) -> Result<Self, PodError> {
        let given = |value: &Option<String>, name| {
            value.clone().filter(|text| !text.is_empty()).ok_or(PodError::Missing(name))
        };
        let ips = args.pod_ips.as_deref().unwrap_or_default();
        let listed = ips.split(',').map(str::trim).filter(|text| !text.is_empty());
        let parsed: Result<Vec<IpAddr>, _> = listed.map(str::parse).collect();
        Ok(Self {
            name: given(&args.pod_name, "COPPICE_POD_NAME")?,
            namespace: given(&args.pod_namespace, "COPPICE_POD_NAMESPACE")?,
            uid: given(&args.pod_uid, "COPPICE_POD_UID")?,
            ips: parsed.map_err(|_| PodError::Addresses(ips.to_owned()))?,
            identity_dir: args.identity_dir.clone().unwrap_or_else(|| IDENTITY_DIR.into()),
        })
    }

    /// The name among peers: the pod's, if that is not too long.
    #[must_use]
    pub fn replica_name(&self) -> String {
        if self.name.len() <= NAME_BYTES {
            return self.name.clone();
        }
        // Names of one workload differ at their ends.
        self.name[self.name.len() - NAME_BYTES..].trim_start_matches(['-', '.']).to_owned()
    }

    /// Where the data is kept on the mounted volume: other pods may have it mounted too.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        Path::new(DATA_MOUNT).join("coppice").join(&self.name)
    }

    /// All addresses of the pod's families.
    #[must_use]
    pub fn any_address(&self) -> IpAddr {
        if self.ips.iter().any(IpAddr::is_ipv6) {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }

    /// Whether its first address is of IPv6.
    #[must_use]
    pub fn prefers_v6(&self) -> bool {
        self.ips.first().is_some_and(IpAddr::is_ipv6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(ips: &str) -> PodArgs {
        let given = |text: &str| Some(text.to_owned());
        PodArgs {
            pod_name: given("web-0"),
            pod_namespace: given("shop"),
            pod_uid: given("u"),
            pod_ips: given(ips),
            identity_dir: None,
        }
    }

    #[test]
    fn a_pod_listens_on_the_families_that_it_has() {
        for (ips, any, prefers_v6) in [
            ("10.0.0.1", "0.0.0.0", false),
            ("10.0.0.1,fd00::1", "::", false),
            ("fd00::1,10.0.0.1", "::", true),
            ("", "0.0.0.0", false),
        ] {
            let pod = Pod::read(&args(ips)).unwrap();
            assert_eq!((pod.any_address().to_string(), pod.prefers_v6()), (any.into(), prefers_v6));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Pod::read(&PodArgs::default()).unwrap_err().to_string();
        assert!(error.contains("COPPICE_POD_NAME") && error.contains("--config"), "{error}");
        let unnamed = PodArgs { pod_uid: Some(String::new()), ..args("") };
        assert!(Pod::read(&unnamed).unwrap_err().to_string().contains("COPPICE_POD_UID"));
        assert!(Pod::read(&args("nowhere")).unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let mut pod = Pod::read(&args("")).unwrap();
        assert_eq!(pod.replica_name(), "web-0");
        assert_eq!(pod.data_dir(), Path::new("/var/lib/coppice/coppice/web-0"));
        pod.name = format!("{}-x7", "a".repeat(100));
        assert_eq!(pod.replica_name(), format!("{}-x7", "a".repeat(60)));
    }
}
