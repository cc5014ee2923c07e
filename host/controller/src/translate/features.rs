//! What a GatewayClass of ours promises (`status.supportedFeatures`), and the versions of the CRDs it knows.

/// The newest minor version of Gateway API v1 that is known.
pub(super) const NEWEST_VERSION: u32 = 7;

/// The oldest minor version whose objects mean the same.
pub(super) const OLDEST_VERSION: u32 = 2;

/// Feature names of the conformance suite, in the order the specification demands (alphabetical).
pub(super) const SUPPORTED: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayListenerFilters",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetryCodes",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// What is promised when each Gateway has a Service.
const WITH_SERVICES: &str = "GatewayInfrastructure";

/// What is promised; `services` is whether each Gateway has one.
pub(super) fn supported(services: bool) -> Vec<&'static str> {
    let mut names = SUPPORTED.to_vec();
    names.extend(services.then_some(WITH_SERVICES));
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn sorted_as_the_specification_demands() {
        assert!(super::SUPPORTED.is_sorted());
    }
}
