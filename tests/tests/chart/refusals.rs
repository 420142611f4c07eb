//! Values that cannot be meant are refused by name, before anything is installed.

use super::helm::helm;

#[test]
#[ignore = "needs Helm: make chart"]
fn wrong_values_are_refused_by_name() {
    let wrong = [
        ("replica=3", "'replica'"),
        ("replicas=0", "/replicas"),
        ("image.tag=a:b", "/image/tag"),
        ("image.repository=x", "'repository'"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("watchNamespaces={Shop}", "/watchNamespaces/0"),
        ("watchNamespaces=shop", "/watchNamespaces"),
        ("log.level=loud", "/log/level"),
        ("resources.limits.memory=much", "/resources/limits/memory"),
        ("agent.resources.requests.cpu=null", "/agent/resources/requests"),
        ("agent.resources.requests.disk=1Gi", "'disk'"),
        ("injection.policy=Ignore", "/injection/policy"),
        ("injection.timeoutSeconds=31", "/injection/timeoutSeconds"),
        ("podSecurityContext.runAsUser=0", "/podSecurityContext/runAsUser"),
        ("podSecurityContext.runAsNonRoot=false", "/podSecurityContext/runAsNonRoot"),
        ("podDisruptionBudget.minAvailable=many", "/podDisruptionBudget/minAvailable"),
        ("topologySpread.whenUnsatisfiable=Never", "/topologySpread/whenUnsatisfiable"),
        ("monitoring.interval=often", "/monitoring/interval"),
        ("monitoring.runbookBaseUrl=wiki", "/monitoring/runbookBaseUrl"),
    ];
    for (set, place) in wrong {
        let refusal = helm(&["template", "coppice", "charts/coppice", "--set", set]);
        let refusal = refusal.expect_err(&format!("{set} is refused"));
        assert!(refusal.contains(place), "{set} is refused without {place}: {refusal}");
    }
}
