//! What proves a delivery: a bearer token, plain or signed, or the API key in the body.

use std::borrow::Cow;

use aof_shared::clock::UnixMs;
use aof_shared::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Signed;

/// The header that carries the proof unless the instance names another.
pub(super) const HEADER: &str = "authorization";
/// How far the two clocks may be apart, in seconds.
const SKEW_SECS: u64 = 60;
/// Longest life of a token that is believed, in seconds; Evolution gives 600.
const MAX_LIFE_SECS: u64 = 3_600;

/// True when `header` holds `secret`, or a token that its holder signed for now.
pub(super) fn by_header(signed: &Signed<'_>, header: &str, secret: &Secret) -> bool {
    let given = signed.headers.get(header).and_then(|value| value.to_str().ok());
    let Some(given) = given.map(str::trim).filter(|_| !secret.expose().is_empty()) else {
        return false;
    };
    let bearer = given.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let token = bearer.map_or(given, |_| given[7..].trim());
    is_same(token, secret) || is_signed(token, secret, signed.now_ms)
}

/// True when the body's `apikey` is the account's.
pub(super) fn by_body(body: &[u8], key: &Secret) -> bool {
    #[derive(Deserialize)]
    struct Keyed<'a> {
        #[serde(borrow, default)]
        apikey: Option<Cow<'a, str>>,
    }
    let given = serde_json::from_slice::<Keyed<'_>>(body).ok().and_then(|keyed| keyed.apikey);
    !key.expose().is_empty() && given.is_some_and(|given| is_same(&given, key))
}

/// Compares in time that depends on the lengths alone.
fn is_same(given: &str, secret: &Secret) -> bool {
    given.as_bytes().ct_eq(secret.expose().as_bytes()).into()
}

/// A JSON web token, HS256 and nothing else. Source: RFC 7515, RFC 7519.
fn is_signed(token: &str, secret: &Secret, now_ms: UnixMs) -> bool {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
        #[serde(default)]
        iat: Option<u64>,
        #[serde(default)]
        nbf: Option<u64>,
    }
    let Some((content, signature)) = token.rsplit_once('.') else { return false };
    let Some((header, claims)) = content.split_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(content.as_bytes());
    if mac.verify_slice(&signature).is_err() {
        return false;
    }
    let (Some(header), Some(claims)) = (part::<Header>(header), part::<Claims>(claims)) else {
        return false;
    };
    let now = now_ms / 1_000;
    let begun = [claims.iat, claims.nbf].into_iter().flatten().all(|at| at <= now + SKEW_SECS);
    let ends = now < claims.exp.saturating_add(SKEW_SECS)
        && claims.exp <= now.saturating_add(MAX_LIFE_SECS + SKEW_SECS);
    header.alg == "HS256" && begun && ends
}

fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const AT: u64 = 1_700_000_000;
    const SECRET: &str = "a webhook secret";

    fn token(header: &str, claims: &str, secret: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let content = format!("{}.{}", encode(header), encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
        mac.update(content.as_bytes());
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn check(what: &str, value: &str, now_secs: u64, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().expect("a header value"));
        let signed = Signed { headers: &headers, event: None, body: b"", now_ms: now_secs * 1_000 };
        assert_eq!(by_header(&signed, HEADER, &Secret::new(SECRET)), expected, "{what}");
    }

    #[test]
    fn a_token_passes_while_it_lasts_and_only_as_hs256() {
        let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = format!(r#"{{"iat":{AT},"exp":{},"app":"evolution"}}"#, AT + 600);
        let good = format!("Bearer {}", token(hs256, &claims, SECRET));
        check("now", &good, AT, true);
        check("at its end", &good, AT + 659, true);
        check("after its end", &good, AT + 661, false);
        check("a minute early", &good, AT - 60, true);
        check("earlier", &good, AT - 61, false);
        check("another secret", &format!("Bearer {}", token(hs256, &claims, "x")), AT, false);
        check("cut", &good[..good.len() - 2], AT, false);
        let none = token(r#"{"alg":"none"}"#, &claims, SECRET);
        check("another algorithm", &format!("Bearer {none}"), AT, false);
        let unsigned = format!("{}.", none.rsplit_once('.').expect("three parts").0);
        check("unsigned", &format!("Bearer {unsigned}"), AT, false);
        for odd in [r"{}", r#"{"exp":"soon"}"#, "[]", r#"{"exp":99999999999}"#] {
            check(odd, &format!("Bearer {}", token(hs256, odd, SECRET)), AT, false);
        }
    }

    #[test]
    fn a_token_made_by_another_library_passes_and_no_altered_one_does() {
        let Some(root) = std::env::var_os("AOF_FIXTURES").filter(|root| !root.is_empty()) else {
            println!("left out: AOF_FIXTURES does not name the folder of captured payloads");
            return;
        };
        let file = std::path::Path::new(&root).join("vectors/vectors.json");
        let file = std::fs::read_to_string(file).expect("the vectors");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(&file).expect("a list");
        let vector = vectors.iter().find(|v| v["name"] == "evolution_jwt").expect("the vector");
        let secret = Secret::new(vector["secret"].as_str().expect("a secret"));
        let passes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, value.parse().expect("a header value"));
            let signed = Signed { headers: &headers, event: None, body: b"", now_ms: AT * 1_000 };
            by_header(&signed, HEADER, &secret)
        };
        let good = vector["signature"].as_str().expect("a header value");
        assert!(passes(good));
        for at in "Bearer ".len()..good.len() {
            let mut altered = good.as_bytes().to_vec();
            altered[at] ^= 1;
            let altered = String::from_utf8(altered).expect("ASCII");
            assert!(!passes(&altered), "{altered}");
        }
    }

    #[test]
    fn a_plain_secret_passes_whole_or_not_at_all() {
        check("bearer", &format!("Bearer {SECRET}"), AT, true);
        check("plain", SECRET, AT, true);
        for odd in ["", "Bearer ", "Bearer", "Bearer a webhook secre", "a webhook secretx"] {
            check(odd, odd, AT, false);
        }
    }

    #[test]
    fn the_key_in_the_body_is_the_accounts_own_or_nothing() {
        let key = Secret::new("0000-AAAA");
        assert!(by_body(br#"{"data":{},"apikey":"0000-AAAA"}"#, &key));
        for odd in ["", "{", "{}", r#"{"apikey":null}"#, r#"{"apikey":"0000"}"#, r#"{"apikey":1}"#]
        {
            assert!(!by_body(odd.as_bytes(), &key), "{odd}");
        }
        assert!(!by_body(br#"{"apikey":""}"#, &Secret::new("")), "an empty key proves nothing");
    }
}
