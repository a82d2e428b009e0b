//! What the standard OTEL variables say about traces. Endpoint, headers, time-outs and
//! certificates are read by the exporter itself, under the same standard names.
//!
//! Source: the OpenTelemetry specification, *Environment Variable Specification*.

use opentelemetry_otlp::Protocol;
use opentelemetry_sdk::trace::Sampler;

use crate::manifest::Env;

/// The variables that name a receiver; without one nothing is traced.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The variables that name the protocol.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// Name of the service that spans belong to, unless set otherwise.
const SERVICE: &str = "aofctl";

/// How spans are made and sent.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) protocol: Protocol,
    pub(super) sampler: Sampler,
    /// `OTEL_SERVICE_NAME`, if set.
    pub(super) service: Option<String>,
    pub(super) default_service: &'static str,
}

/// A variable that is not understood.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is `{value}`: {help}")]
pub struct SettingsError {
    variable: &'static str,
    value: String,
    help: &'static str,
}

impl Settings {
    /// Reads the variables. `None`: nothing is traced.
    ///
    /// # Errors
    /// [`SettingsError`] for a value that is not understood.
    pub fn read(env: &Env) -> Result<Option<Self>, SettingsError> {
        let disabled =
            set(env, "OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let endpoint = ENDPOINTS.iter().find_map(|name| Some((*name, set(env, name)?)));
        let (Some((variable, endpoint)), false) = (endpoint, disabled) else { return Ok(None) };
        match set(env, "OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                let help = "use `otlp`, or `none` for no traces";
                return Err(refused("OTEL_TRACES_EXPORTER", other, help));
            }
        }
        check_endpoint(variable, &endpoint)?;
        Ok(Some(Self {
            protocol: protocol(env)?,
            sampler: sampler(env)?,
            service: set(env, "OTEL_SERVICE_NAME"),
            default_service: SERVICE,
        }))
    }
}

/// An empty variable is one that is not set.
fn set(env: &Env, name: &str) -> Option<String> {
    env.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
}

fn refused(variable: &'static str, value: &str, help: &'static str) -> SettingsError {
    SettingsError { variable, value: value.to_owned(), help }
}

/// Errors of the exporter name the endpoint, so it must not hold a password.
fn check_endpoint(variable: &'static str, endpoint: &str) -> Result<(), SettingsError> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        let help = "leave credentials out of it and set OTEL_EXPORTER_OTLP_HEADERS";
        return Err(refused(variable, "***", help));
    }
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err(refused(variable, endpoint, "write it as http://host:port or https://host"));
    }
    Ok(())
}

fn protocol(env: &Env) -> Result<Protocol, SettingsError> {
    let Some((variable, value)) = PROTOCOLS.iter().find_map(|n| Some((*n, set(env, n)?))) else {
        return Ok(Protocol::HttpBinary);
    };
    match value.as_str() {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpBinary),
        other => Err(refused(variable, other, "use `grpc` or `http/protobuf`")),
    }
}

fn sampler(env: &Env) -> Result<Sampler, SettingsError> {
    let parent_based = |root| Sampler::ParentBased(Box::new(root));
    Ok(match set(env, "OTEL_TRACES_SAMPLER").as_deref() {
        None | Some("parentbased_always_on") => parent_based(Sampler::AlwaysOn),
        Some("parentbased_always_off") => parent_based(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => parent_based(Sampler::TraceIdRatioBased(ratio(env)?)),
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => Sampler::TraceIdRatioBased(ratio(env)?),
        Some(other) => {
            let help = "use always_on, always_off, traceidratio, or one of these with `parentbased_` before it";
            return Err(refused("OTEL_TRACES_SAMPLER", other, help));
        }
    })
}

/// The part of traces to keep; all of them unless set.
fn ratio(env: &Env) -> Result<f64, SettingsError> {
    let variable = "OTEL_TRACES_SAMPLER_ARG";
    let Some(text) = set(env, variable) else { return Ok(1.0) };
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| refused(variable, &text, "use a number from 0 (none) to 1 (all)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    fn read(set: &[(&'static str, &'static str)]) -> Result<Option<Settings>, String> {
        let set = set.to_vec();
        let env = Env::new(move |name| {
            set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        Settings::read(&env).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_traced_without_an_endpoint_or_when_told_so() {
        for set in [
            &[][..],
            &[("OTEL_TRACES_SAMPLER", "always_on")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "true")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(read(set).expect("understood").is_none(), "{set:?}");
        }
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")]).expect("understood").is_some());
    }

    #[test]
    fn the_standard_names_choose_protocol_and_sampler() {
        let of = |more: &[(&'static str, &'static str)]| {
            let settings = read(&[&[ENDPOINT][..], more].concat()).expect("understood");
            let Settings { protocol, sampler, .. } = settings.expect("an endpoint is set");
            format!("{protocol:?} {sampler:?}")
        };
        assert_eq!(of(&[]), "HttpBinary ParentBased(AlwaysOn)");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(of(&[grpc]), "Grpc ParentBased(AlwaysOn)");
        let http = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        assert_eq!(of(&[grpc, http]), "HttpBinary ParentBased(AlwaysOn)");
        let ratio = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        let arg = ("OTEL_TRACES_SAMPLER_ARG", "0.01");
        assert_eq!(of(&[ratio, arg]), "HttpBinary ParentBased(TraceIdRatioBased(0.01))");
        assert_eq!(of(&[("OTEL_TRACES_SAMPLER", "always_off")]), "HttpBinary AlwaysOff");
    }

    #[test]
    fn what_is_not_understood_is_named_with_a_way_out() {
        for (set, expected) in [
            (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), "`grpc` or `http/protobuf`"),
            (("OTEL_TRACES_SAMPLER", "xray"), "always_on"),
            (("OTEL_TRACES_EXPORTER", "zipkin"), "otlp"),
            (("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "jaeger:4317"), "http://host:port"),
            (("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:p@jaeger:4317"), "_HEADERS"),
        ] {
            let error = read(&[ENDPOINT, set]).expect_err("not understood");
            assert!(error.starts_with(set.0) && error.contains(expected), "{error}");
            assert!(!error.contains("u:p"), "{error}");
        }
        let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
        let error = read(&[ENDPOINT, ratio, ("OTEL_TRACES_SAMPLER_ARG", "1 %")]);
        assert!(error.expect_err("not a number").contains("from 0"));
    }
}
