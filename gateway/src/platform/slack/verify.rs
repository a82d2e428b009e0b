//! Slack's signature: HMAC-SHA256 over `v0:<timestamp>:<raw body>`.

use aof_shared::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::Signed;
use crate::seen::Fingerprint;

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";
/// Digits of a Unix time in seconds; longer ones are not one.
const MAX_TIMESTAMP_DIGITS: usize = 12;

/// Checks the signature. A missing or unreadable header is a bad signature. Source: K1.
pub(super) fn verify(signed: &Signed<'_>, secret: &Secret, window_ms: u64) -> Option<Fingerprint> {
    let signature = signed.headers.get(SIGNATURE)?.as_bytes().strip_prefix(b"v0=")?;
    let timestamp = signed.headers.get(TIMESTAMP)?.to_str().ok()?;
    if !is_fresh(timestamp, signed.now_ms, window_ms) || secret.expose().is_empty() {
        return None;
    }
    let mut given = [0_u8; 32];
    hex::decode_to_slice(signature, &mut given).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(signed.body);
    mac.verify_slice(&given).ok()?;
    let half = given.first_chunk().expect("a digest of 32 bytes has 16");
    Some(*half)
}

/// Whole seconds are compared, as Slack signs whole seconds.
fn is_fresh(timestamp: &str, now_ms: u64, window_ms: u64) -> bool {
    let digits =
        timestamp.len() <= MAX_TIMESTAMP_DIGITS && timestamp.bytes().all(|b| b.is_ascii_digit());
    match timestamp.parse::<u64>() {
        Ok(secs) if digits => (now_ms / 1000).abs_diff(secs) <= window_ms / 1000,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const SECRET: &str = "a signing secret";
    const AT: u64 = 1_700_000_000;
    const BODY: &[u8] = b"{\"type\":\"x\"}";

    fn sign(at: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
        mac.update(&[b"v0:", at.as_bytes(), b":", body].concat());
        format!("v0={}", hex::encode(mac.finalize().into_bytes()))
    }

    fn check(what: &str, headers: &[(&'static str, &str)], now_secs: u64, expected: bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        let signed =
            Signed { headers: &map, event: None, body: BODY, now_ms: now_secs * 1000 + 999 };
        assert_eq!(verify(&signed, &Secret::new(SECRET), 300_000).is_some(), expected, "{what}");
    }

    #[test]
    fn only_the_right_signature_within_the_window_passes() {
        let at = AT.to_string();
        let good = sign(&at, BODY);
        let both = [(SIGNATURE, good.as_str()), (TIMESTAMP, at.as_str())];
        check("now", &both, AT, true);
        check("299 s old", &both, AT + 299, true);
        check("300 s old", &both, AT + 300, true);
        check("301 s old", &both, AT + 301, false);
        check("301 s ahead", &both, AT - 301, false);
        check("no signature", &both[1..], AT, false);
        check("no timestamp", &both[..1], AT, false);
        let cut = &good[..good.len() - 2];
        let upper = good.to_uppercase().replace("V0", "v0");
        for (what, signature) in [
            ("cut", cut),
            ("another body", &sign(&at, b"{}")),
            ("another time", &sign("1700000001", BODY)),
            ("another version", &good.replace("v0", "v1")),
            ("empty", ""),
            ("not hex", "v0=zz"),
        ] {
            check(what, &[(SIGNATURE, signature), (TIMESTAMP, &at)], AT, false);
        }
        check("upper case digits", &[(SIGNATURE, &upper), (TIMESTAMP, &at)], AT, true);
        for odd in ["+1700000000", "1700000000.0", "", "-1", "99999999999999999999"] {
            check(odd, &[(SIGNATURE, &sign(odd, BODY)), (TIMESTAMP, odd)], AT, false);
        }
    }

    #[test]
    fn an_empty_secret_verifies_nothing() {
        let at = AT.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"").expect("any length");
        mac.update(&[b"v0:", at.as_bytes(), b":", BODY].concat());
        let forged = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, forged.parse().expect("a header value"));
        headers.insert(TIMESTAMP, at.parse().expect("a header value"));
        let signed = Signed { headers: &headers, event: None, body: BODY, now_ms: AT * 1000 };
        assert!(verify(&signed, &Secret::new(""), 300_000).is_none());
    }
}
